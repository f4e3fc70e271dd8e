"""`python -m loadtest.relay`: the relay benchmark without the `headrace` command."""

from __future__ import annotations

import sys

from loadtest.relay.cli import main

sys.exit(main(sys.argv[1:]))
