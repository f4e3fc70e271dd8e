"""Where the naive relays find their backend, and which headers they pass on."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Final

VARIABLE: Final = "HEADRACE_BENCH_UPSTREAM"
PASSED_ON: Final = frozenset({"content-type", "accept", "authorization"})


def upstream_url(path: str) -> str:
    """Return the backend's URL for `path`."""
    return os.environ[VARIABLE] + path


def passed_on(headers: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Return the request headers that go to the backend."""
    return {name: value for name, value in headers if name.lower() in PASSED_ON}
