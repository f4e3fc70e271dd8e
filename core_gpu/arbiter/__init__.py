"""The arbiter: owns the memory of the GPUs, and lends it out in leases (design §6)."""
