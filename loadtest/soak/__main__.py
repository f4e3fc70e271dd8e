"""`python -m loadtest.soak`, which is `make soak`."""

from __future__ import annotations

import sys

from loadtest.soak.cli import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
