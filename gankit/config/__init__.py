"""What is asked of a run, and the configuration that comes of it."""
