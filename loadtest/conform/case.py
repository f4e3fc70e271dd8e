"""What a case is, what it finds, and the list of all of them."""

from __future__ import annotations

import enum
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import msgspec

if TYPE_CHECKING:
    from loadtest.conform.rig import Rig

__all__ = ["CASES", "Case", "Finding", "Verdict", "case", "deviation", "failed", "passed", "skipped"]

#: `gateway`: nothing else; `backend`: the scripted backend behind it; `pair`: two addresses of it; `headrace`: our
#: extensions, judged only where the gateway shows that it has them.
Needs = Literal["gateway", "backend", "pair", "headrace"]
#: `must`: tokens, GPU time or the truth are lost; `should`: somebody has to work around it.
Severity = Literal["must", "should"]


class Verdict(enum.StrEnum):
    """How a gateway did in one case, from good to bad."""

    PASS = "pass"  # noqa: S105  # No password, but: as required
    DEVIATION = "deviation"  #: allowed, but a user should know
    FAIL = "fail"  #: what the motivating threads complain about
    SKIPPED = "skipped"  #: could not be judged here


class Finding(msgspec.Struct, frozen=True):
    """What one case found."""

    verdict: Verdict
    #: Bytes, times and counts that were seen, in one line.
    evidence: str


def passed(evidence: str) -> Finding:
    """Return that the gateway did as required."""
    return Finding(Verdict.PASS, evidence)


def deviation(evidence: str) -> Finding:
    """Return that it did something else that is allowed."""
    return Finding(Verdict.DEVIATION, evidence)


def failed(evidence: str) -> Finding:
    """Return that it failed."""
    return Finding(Verdict.FAIL, evidence)


def skipped(why: str) -> Finding:
    """Return that this cannot be judged here."""
    return Finding(Verdict.SKIPPED, why)


@dataclass(frozen=True, slots=True)
class Case:
    """One requirement and the way to judge it."""

    id: str
    #: Topic; cases of one topic stand together in the table.
    group: str
    needs: Needs
    severity: Severity
    #: One sentence.
    requires: str
    #: Public threads and documents that motivated it.
    threads: tuple[str, ...]
    run: Callable[[Rig], Awaitable[Finding]]
    #: Measures time, so nothing else may run beside it.
    alone: bool


#: By id, in the order of the table.
CASES: dict[str, Case] = {}


def case(
    id_: str,
    group: str,
    requires: str,
    *threads: str,
    needs: Needs = "backend",
    severity: Severity = "must",
    alone: bool = False,
) -> Callable[[Callable[[Rig], Awaitable[Finding]]], Callable[[Rig], Awaitable[Finding]]]:
    """Register the decorated coroutine function as a case."""

    def register(run: Callable[[Rig], Awaitable[Finding]]) -> Callable[[Rig], Awaitable[Finding]]:
        if id_ in CASES:
            raise ValueError(f"two cases are called {id_}")
        CASES[id_] = Case(id_, group, needs, severity, requires, threads, run, alone)
        return run

    return register
