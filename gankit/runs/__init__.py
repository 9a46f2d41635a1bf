"""Run folders: what stands in them."""
