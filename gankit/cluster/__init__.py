"""Runs on the machines of a Ray cluster, for `gankit sweep` and `gankit compare` with --ray."""
