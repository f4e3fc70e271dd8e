"""Stand-ins for engines that cannot run here; always named simulators where a user sees them."""
