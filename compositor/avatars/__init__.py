"""Faces: what can be asked for, its frames, and what the inference server is given of them."""
