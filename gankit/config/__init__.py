"""Requests for a run, and the configurations that they resolve to."""
