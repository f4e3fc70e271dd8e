"""What a run found: for people as a table, for programs as JSON."""

from __future__ import annotations

import os
import sys
import textwrap
from collections import Counter
from collections.abc import Sequence
from typing import Final, TextIO

import msgspec

from loadtest.conform.suite import Result

__all__ = ["Report", "Terminal"]

_MARKS: Final = {"pass": ("✓", "32"), "deviation": ("~", "33"), "fail": ("✗", "31"), "skipped": ("·", "2")}
_ORDER: Final = ("pass", "deviation", "fail", "skipped")
_WIDE: Final = 100


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """One run of the suite; the JSON report is this."""

    gateway: str
    model: str
    #: `gateway` where only black-box cases ran, `backend` where the scripted backend stood behind it.
    mode: str
    counts: dict[str, int]
    results: list[Result]

    @classmethod
    def of(cls, gateway: str, model: str, mode: str, results: Sequence[Result]) -> Report:
        """Return the report of these results."""
        counted = Counter(result.verdict for result in results)
        counts = {verdict: counted[verdict] for verdict in _ORDER}
        return cls(gateway=gateway, model=model, mode=mode, counts=counts, results=list(results))

    @property
    def failed(self) -> bool:
        """A case failed."""
        return self.counts["fail"] > 0

    def json(self) -> bytes:
        """Return it as JSON for people and programs."""
        return msgspec.json.format(msgspec.json.encode(self)) + b"\n"


class Terminal:
    """Writes progress and the table; colours only where somebody looks."""

    def __init__(self, out: TextIO | None = None) -> None:
        self._out = sys.stdout if out is None else out
        self._live = self._out.isatty()
        self._coloured = self._live and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"

    def line(self, text: str = "") -> None:
        """Write a line that stays."""
        if self._live:
            print("\r\x1b[K", end="", file=self._out)
        print(text, file=self._out, flush=True)

    def progress(self, result: Result, left: int) -> None:
        """Say how far it is: one moving line on a terminal, a line for each case elsewhere."""
        text = f"  {self._mark(result.verdict)} {result.id} ({result.seconds:.1f} s), {left} to go"
        if self._live:
            print(f"\r\x1b[K{text}", end="", file=self._out, flush=True)
        else:
            self.line(text)

    def table(self, report: Report) -> None:
        """Write every result, by topic; the requirement stands beside what was not met."""
        group = ""
        for result in report.results:
            if result.group != group:
                group = result.group
                self.line()
                self.line(self._paint(group.upper(), "1"))
            self.line(f"  {self._mark(result.verdict)} {result.id:30} {self._short(result)}")
            if result.verdict in ("fail", "deviation"):
                self._explain(result)
        self.line()
        counts = [f"{report.counts[verdict]} {verdict}" for verdict in _ORDER if report.counts[verdict]]
        self.line(self._paint(f"{len(report.results)} cases: {', '.join(counts)}", "31;1" if report.failed else "1"))

    def _short(self, result: Result) -> str:
        room = _WIDE - 35
        shown = result.evidence if len(result.evidence) <= room else result.evidence[: room - 1] + "…"
        return self._paint(shown, "2") if result.verdict in ("pass", "skipped") else shown

    def _explain(self, result: Result) -> None:
        if len(result.evidence) > _WIDE - 35:
            for line in textwrap.wrap(result.evidence, _WIDE - 6):
                self.line(f"      {line}")
        for line in textwrap.wrap(f"{result.severity}: {result.requires}", _WIDE - 6):
            self.line(self._paint(f"      {line}", "2"))
        self.line(self._paint(f"      see {', '.join(result.threads)}", "2"))

    def _mark(self, verdict: str) -> str:
        mark, colour = _MARKS[verdict]
        return self._paint(mark, colour)

    def _paint(self, text: str, code: str) -> str:
        return f"\x1b[{code}m{text}\x1b[0m" if self._coloured and text else text
