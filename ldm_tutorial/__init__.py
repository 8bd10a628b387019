"""Stable Diffusion from scratch: `load_pipeline("emoji")("a cat")`. Importing this costs no more than importing torch."""

__version__ = "0.1.0"
