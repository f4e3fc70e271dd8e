"""What a face costs."""
