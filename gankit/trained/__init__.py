"""Samples, latents and measures of a trained generator."""
