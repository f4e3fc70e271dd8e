"""Tests that need a program this machine may lack say so, instead of failing obscurely."""

from __future__ import annotations

import os
import shutil

import pytest

INSTALL = ".ci/install-system"


def program(*names: str) -> str:
    """Return the path of the first of `names` on PATH.

    Skips the calling test with what is missing; with CI=true a missing program is a failure,
    because `.ci/run` installs them all first (`.ci/install-system`).
    """
    for name in names:
        if path := shutil.which(name):
            return path
    message = f"needs {' or '.join(names)}, which is not on PATH; {INSTALL} installs it on Debian"
    if os.environ.get("CI") == "true":
        pytest.fail(message)
    pytest.skip(message)
