"""Models that the project makes itself, so that everything runs without anybody's weights."""
