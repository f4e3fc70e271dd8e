"""Flow control: channels, marks, permits, budgets, breakers, selection, clocks."""
