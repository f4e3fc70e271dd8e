"""A stand-in for llama-server, held against bytes captured from the real one (tests/vectors/llamacpp)."""
