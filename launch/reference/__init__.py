"""Pages of docs/reference that are written by the code that they are about."""
