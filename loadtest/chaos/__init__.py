"""A TCP proxy that makes connections bad in chosen ways, while they are open."""
