"""Where to: cached route answers and the choice among candidates."""
