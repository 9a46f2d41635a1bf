"""A trained generator handed on: its ONNX form, the page that draws with it, and a folder as model hubs expect it."""
