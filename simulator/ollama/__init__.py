"""A stand-in for Ollama: both its APIs, and how it loads and unloads models (facts: gpu-backends §1.2)."""
