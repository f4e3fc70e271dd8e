"""A scripted overload of one engine beside another, and the chart of where requests went."""
