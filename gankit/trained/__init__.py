"""What a trained generator gives: samples, latents, measures."""
