"""When a path is sick: probes against what is usual for it. No clock, no I/O.

A probe is *bad* when it failed, or when its first token or its longest gap came later than both an absolute floor and
a multiple of the path's usual figure. So many bad ones in a row make a path sick, so many good ones in a row well
again: one outlier does nothing, and a path that goes to and fro changes at most once in that many probes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Literal

__all__ = ["PathHealth", "Probe", "Rule"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """What one probe found.

    Args:
        result: ok; failed; busy = refused for want of room, which is no sickness; unasked = the edge itself, or the
            prober's key, was the reason, which says nothing about the backend.
        ttft_s: to the first token; None = there was none.
        gap_s: the longest between tokens; None = there was no second one.
        detail: a few words for a person.
    """

    result: Literal["ok", "failed", "busy", "unasked"]
    ttft_s: float | None = None
    gap_s: float | None = None
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """What counts as bad, and how often. Times are seconds."""

    ttft_floor_s: float
    ttft_times: float
    gap_floor_s: float
    gap_times: float
    #: Good probes before there is a usual figure; until then only failures are bad.
    baseline_probes: int
    #: Good probes that the usual figures are taken from. As many late ones in a row are the new usual.
    baseline_kept: int
    sick_after: int
    well_after: int


class PathHealth:
    """One path.

    Args:
        rule: what counts as bad.
        sick: it is known to be, and has to be well first.
        why: so.
    """

    def __init__(self, rule: Rule, *, sick: bool = False, why: str = "") -> None:
        self.sick = sick
        #: Why the last bad probe was bad.
        self.why = why
        self.last: Probe | None = None
        self._rule = rule
        self._good: deque[Probe] = deque(maxlen=rule.baseline_kept)
        self._late: list[Probe] = []
        self._bad_in_a_row = 0
        self._good_in_a_row = 0

    @property
    def usual_ttft_s(self) -> float | None:
        """The median of the good probes' first tokens; None = not known yet."""
        return self._usual([probe.ttft_s for probe in self._good if probe.ttft_s is not None])

    @property
    def usual_gap_s(self) -> float | None:
        """The median of their longest gaps; None = not known yet."""
        return self._usual([probe.gap_s for probe in self._good if probe.gap_s is not None])

    def see(self, probe: Probe) -> bool:
        """Judge a probe; return whether the path has become sick or well by it."""
        self.last = probe
        if probe.result in ("busy", "unasked"):
            return False
        why = self._judge(probe)
        if why:
            self.why = why
            self._bad_in_a_row += 1
            self._good_in_a_row = 0
            if not self.sick and self._bad_in_a_row >= self._rule.sick_after:
                self.sick = True
                return True
            return False
        self._good.append(probe)
        self._good_in_a_row += 1
        self._bad_in_a_row = 0
        if self.sick and self._good_in_a_row >= self._rule.well_after:
            self.sick = False
            self.why = ""
            return True
        return False

    def _judge(self, probe: Probe) -> str:
        """Return why a probe is bad; empty = it is good."""
        if probe.result == "failed":
            self._late.clear()
            return probe.detail or "failed"
        rule = self._rule
        spikes = (
            ("first token", probe.ttft_s, rule.ttft_floor_s, rule.ttft_times, self.usual_ttft_s),
            ("gap", probe.gap_s, rule.gap_floor_s, rule.gap_times, self.usual_gap_s),
        )
        for what, found_s, floor_s, times, usual_s in spikes:
            if found_s is None or usual_s is None:
                continue
            if found_s > floor_s and found_s > times * usual_s:
                self._late.append(probe)
                if len(self._late) >= rule.baseline_kept:
                    # It answers, and has been like this for as long as anything is remembered.
                    self._good.extend(self._late)
                    self._late.clear()
                    return ""
                return f"{what} {found_s * 1000:.0f} ms, usually {usual_s * 1000:.0f} ms"
        self._late.clear()
        return ""

    def _usual(self, found: Sequence[float]) -> float | None:
        return median(found) if len(found) >= self._rule.baseline_probes else None
