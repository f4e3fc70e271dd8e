"""Sans-I/O core of the edge: state tables, framing, request editing."""
