"""The edge's HTTP surface: one module for each kind of page."""
