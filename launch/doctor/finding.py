"""What a check found: a verdict, what was seen, and what to do about it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, Literal

import msgspec

__all__ = ["Finding", "Verdict", "bad", "good", "status_of", "unasked", "warning"]

Verdict = Literal["ok", "warn", "fail", "skip"]

_STATUS_OK: Final = 0
_STATUS_FAILED: Final = 1


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that was looked at."""

    #: Stable, for scripts: `limits.files`, `engine.gpu0`.
    check: str
    verdict: Verdict
    #: What was seen, with its figure.
    seen: str
    #: What to do; empty where nothing is to be done.
    do: str = ""


def good(check: str, seen: str) -> Finding:
    """Return a finding that needs nothing."""
    return Finding(check=check, verdict="ok", seen=seen)


def warning(check: str, seen: str, do: str) -> Finding:
    """Return a finding that will matter under load, or in a case that may come."""
    return Finding(check=check, verdict="warn", seen=seen, do=do)


def bad(check: str, seen: str, do: str) -> Finding:
    """Return a finding with which something will not work."""
    return Finding(check=check, verdict="fail", seen=seen, do=do)


def unasked(check: str, seen: str) -> Finding:
    """Return a finding about what was not looked at, with the reason."""
    return Finding(check=check, verdict="skip", seen=seen)


def status_of(findings: Iterable[Finding]) -> int:
    """Return the exit status: 1 where anything fails; warnings are 0."""
    return _STATUS_FAILED if any(found.verdict == "fail" for found in findings) else _STATUS_OK
