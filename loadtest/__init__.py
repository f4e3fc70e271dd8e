"""Load generators and benchmarks: clients of the gateway, never parts of it."""
