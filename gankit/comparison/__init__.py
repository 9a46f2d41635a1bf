"""`gankit compare`: several models on the same pictures, and what a few seeds show of their difference."""
