"""One factor for every timeout, so that a slow machine needs one variable and not a hundred edits."""

from __future__ import annotations

import os

#: Multiply any deadline that a test sets by this; HEADRACE_TIMEOUT_FACTOR=5 on a busy machine.
FACTOR = float(os.environ.get("HEADRACE_TIMEOUT_FACTOR", "1"))
MS = 0.001 * FACTOR
#: What we promise "within a second" has happened by then on a machine that others use, too; a test asserts no speed.
SOON_S = 5.0 * FACTOR
