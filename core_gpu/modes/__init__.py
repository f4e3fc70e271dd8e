"""Mode A and Mode B: how engines share GPUs, as flags, environment and compose overrides (design §6)."""
