"""Attempts: retry before the first event, failover, honest endings."""
