"""Downstream: how a stream reaches its client."""
