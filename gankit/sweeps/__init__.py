"""`gankit sweep`: many trainings with varied settings, and which are the best."""
