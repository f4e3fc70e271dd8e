"""A simulator of the compositor: its gRPC, with pictures that are drawn and really encoded, and a voice that hums."""
