"""How the arbiter speaks to each engine."""
