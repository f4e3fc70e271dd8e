"""Upstream: connections to engines, pooled, read through a protocol of our own."""
