"""Figures before anything runs: what a model needs on a GPU, what a fleet can carry, what an allocator wastes."""
