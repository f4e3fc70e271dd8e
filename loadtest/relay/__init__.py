"""The relay benchmark: what a gateway costs per token, for ours and for every peer on the machine."""
