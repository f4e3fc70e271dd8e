"""Lengths of time as people write them."""

from __future__ import annotations

import argparse
import re
from datetime import timedelta
from typing import Final

__all__ = ["since", "told"]

_SHAPE: Final = re.compile(r"(\d{1,6})(s|m|h|d)")
#: Nothing is kept for longer.
_LONGEST: Final = timedelta(days=400)
_SECONDS: Final = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}


def since(text: str) -> timedelta:
    """Read `90s`, `30m`, `24h` or `7d`."""
    found = _SHAPE.fullmatch(text)
    if found is None or int(found[1]) == 0:
        raise argparse.ArgumentTypeError(f"expected a length of time such as 90s, 30m, 24h or 7d, got {text}")
    length = timedelta(seconds=int(found[1]) * _SECONDS[found[2]])
    if length > _LONGEST:
        raise argparse.ArgumentTypeError(f"expected at most {told(_LONGEST)}, got {text}")
    return length


def told(length: timedelta) -> str:
    """Write a length of time as `since` reads it, in the largest unit that it is a whole number of."""
    seconds = round(length.total_seconds())
    unit = next(unit for unit in ("d", "h", "m", "s") if seconds % _SECONDS[unit] == 0)
    return f"{seconds // _SECONDS[unit]}{unit}"
