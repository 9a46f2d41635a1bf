"""Run folders and their contents."""
