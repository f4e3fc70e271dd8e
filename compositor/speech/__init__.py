"""Text to sound: the voices that an avatar can have."""
