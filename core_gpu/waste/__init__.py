"""The waste gate: lease traces through the arbiter's own allocator, and how much memory that leaves unused."""
