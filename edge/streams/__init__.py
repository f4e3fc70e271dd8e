"""Live streams: the contracts between sources and transports, deadlines and heartbeats."""
