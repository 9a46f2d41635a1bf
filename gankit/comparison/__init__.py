"""`gankit compare`: several models on the same pictures, and what a few seeds can tell of the difference."""
