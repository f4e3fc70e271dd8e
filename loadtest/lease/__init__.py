"""What a GPU lease costs: handshakes beside other holders, and ten thousand leases at once."""
