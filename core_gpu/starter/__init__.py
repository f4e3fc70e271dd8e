"""Starting an engine under a lease and behind the arbiter's barrier: `headrace arbiter run -- COMMAND`."""
