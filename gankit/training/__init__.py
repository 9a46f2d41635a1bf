"""One training in memory: built, stepped, recorded, saved, taken up again."""
