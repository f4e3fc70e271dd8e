"""One factor for every timeout, so that a slow machine needs one variable and not a hundred edits."""

from __future__ import annotations

import os

#: Multiply any deadline that a test sets by this; HEADRACE_TIMEOUT_FACTOR=5 on a busy machine.
FACTOR = float(os.environ.get("HEADRACE_TIMEOUT_FACTOR", "1"))
MS = 0.001 * FACTOR
