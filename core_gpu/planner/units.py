"""Sizes as people write them: GB is 10⁹ bytes and GiB is 2³⁰, except for a card, whose maker counts in binary."""

from __future__ import annotations

import re
from typing import Final

__all__ = ["GB", "GIB", "LARGEST_BYTES", "MIB", "PlanError", "card_bytes", "gb", "gib", "mib", "mib_up", "size_bytes"]

GB: Final = 10**9
GIB: Final = 2**30
MIB: Final = 2**20
#: Nothing that a plan speaks of is larger; beyond it somebody slipped with a unit.
LARGEST_BYTES: Final = 64 * 2**40

_UNITS: Final = {
    "b": 1,
    **{f"{letter}b": 1000 ** (power + 1) for power, letter in enumerate("kmgt")},
    **{f"{letter}ib": 1024 ** (power + 1) for power, letter in enumerate("kmgt")},
}
_SIZE: Final = re.compile(r"(?P<number>\d{1,15}(?:\.\d{1,9})?)\s*(?P<unit>[a-z]*)")


class PlanError(ValueError):
    """A plan cannot be made as asked; the message is one line that names the option and its limit."""


def size_bytes(text: str, option: str, *, least: int = 0) -> int:
    """Return the bytes that `text` names, e.g. `1.3GB`, `500 MiB` or `0`.

    Args:
        text: a number with B, KB, MB, GB, TB (powers of 1000) or KiB, MiB, GiB, TiB (powers of 1024).
        option: what the message calls it.
        least: smallest size that makes sense, in bytes.

    Raises:
        PlanError: it is not a size, or lies outside `least` to 64 TiB.
    """
    return _parsed(text, option, _UNITS, least)


def card_bytes(text: str, option: str) -> int:
    """Return the memory of a card sold as `text`: "6 GB" on the box is 6 GiB (6,144 MiB) in the driver.

    Raises:
        PlanError: it is not a size, or lies outside 256 MiB to 64 TiB.
    """
    binary = {**_UNITS, **{f"{letter}b": 1024 ** (power + 1) for power, letter in enumerate("kmgt")}}
    return _parsed(text, option, binary, 256 * MIB)


def gb(size: float) -> str:
    """Return `size` bytes in GB, 10⁹ bytes."""
    return f"{size / GB:.2f} GB"


def gib(size: float) -> str:
    """Return `size` bytes in GiB, 2³⁰ bytes."""
    return f"{size / GIB:.2f} GiB"


def mib(size: float) -> str:
    """Return `size` bytes in whole MiB, 2²⁰ bytes."""
    return f"{size / MIB:,.0f} MiB"


def mib_up(size: int) -> int:
    """Return `size` bytes as whole MiB, rounded up: the unit of leases."""
    return -(-size // MIB)


def _parsed(text: str, option: str, units: dict[str, int], least: int) -> int:
    found = _SIZE.fullmatch(text.strip().lower())
    if found is None:
        raise PlanError(f"{option}: expected a size such as 6GB or 512MiB, got {text[:40]!r}")
    unit = found["unit"]
    if unit == "" and float(found["number"]) == 0:
        unit = "b"
    if unit not in units:
        wanted = (
            "expected a unit: GB (10^9 bytes), GiB (2^30), MB, MiB" if not unit else "expected GB, GiB, MB or MiB"
        )
        raise PlanError(f"{option}: {wanted}, got {text[:40]!r}")
    size = round(float(found["number"]) * units[unit])
    if not least <= size <= LARGEST_BYTES:
        raise PlanError(f"{option}: expected {mib(least)} to 64 TiB, got {text[:40]!r}")
    return size
