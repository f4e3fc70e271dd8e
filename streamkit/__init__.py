"""The only package that services share: wire formats, flow control, operations."""
