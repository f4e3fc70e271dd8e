"""The compositor: turns speech and mouth regions into encoded avatar video."""
