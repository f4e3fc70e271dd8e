"""Ollama's own API (`/api/chat`, `/api/generate`) in OpenAI's words, and back. Sans-I/O.

Facts: gpu-backends §1.2. What OpenAI's format can say and Ollama's cannot is refused by name, never dropped.
"""
