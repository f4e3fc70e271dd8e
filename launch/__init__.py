"""The `headrace` command: one service, or all of them on one machine."""
