"""Slow readers: what a crowd of them costs a gateway's memory, and its other clients."""
