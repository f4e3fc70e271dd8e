"""Pictures into access units and files."""
