"""One training: build, step, record, save and resume it."""
