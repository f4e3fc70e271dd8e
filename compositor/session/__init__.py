"""One avatar's session: what is said, what is shown, and when."""
