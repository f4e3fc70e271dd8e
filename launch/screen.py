"""What a person sees: colours only where they are wanted, and everything within 80 columns."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Final, NamedTuple, TextIO

__all__ = ["Row", "Screen"]

_BOLD: Final = "1"
_DIM: Final = "2"
_RED: Final = "31"
_GREEN: Final = "32"
_YELLOW: Final = "33"


class Row(NamedTuple):
    """One line of the table of services."""

    name: str
    url: str
    #: `real` or `simulated`.
    kind: str
    detail: str = ""


class Screen:
    """A terminal, or a file that stands for one.

    Args:
        out: where to; standard output.
    """

    def __init__(self, out: TextIO | None = None) -> None:
        self._out = sys.stdout if out is None else out
        self.live = self._out.isatty()
        self._coloured = self.live and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
        self._passing = ""

    def line(self, text: str = "") -> None:
        """Print a line that stays."""
        self._clear()
        print(text, file=self._out, flush=True)

    def piece(self, *pieces: str) -> None:
        """Print parts of a line as they come."""
        print(*pieces, sep="", end="", file=self._out, flush=True)

    def passing(self, text: str) -> None:
        """Print a line of progress: on a terminal the next line takes its place, elsewhere it is said once."""
        if text != self._passing:
            self._clear()
            self._passing = text
            print(text, end="" if self.live else "\n", file=self._out, flush=True)

    def bold(self, text: str) -> str:
        """Return `text` in bold."""
        return self._paint(_BOLD, text)

    def dim(self, text: str) -> str:
        """Return `text` less bright."""
        return self._paint(_DIM, text)

    def red(self, text: str) -> str:
        """Return `text` in the colour of failures."""
        return self._paint(_RED, text)

    def table(self, rows: Sequence[Row]) -> None:
        """Print the table of services; simulated ones stand out."""
        heads = Row("WHAT", "WHERE", "KIND", "")
        wide = [max(len(row[column]) for row in (heads, *rows)) for column in range(3)]
        self.line("  " + self.dim(f"{heads.name:{wide[0]}}   {heads.url:{wide[1]}}   {heads.kind}"))
        for row in rows:
            kind = self._paint(_YELLOW if row.kind == "simulated" else _GREEN, f"{row.kind:{wide[2]}}")
            room = 80 - 2 - sum(wide) - 9
            detail = row.detail if len(row.detail) <= room else row.detail[: max(0, room - 1)] + "…"
            self.line(f"  {row.name:{wide[0]}}   {row.url:{wide[1]}}   {kind}   {self.dim(detail)}".rstrip())

    def _paint(self, code: str, text: str) -> str:
        return f"\x1b[{code}m{text}\x1b[0m" if self._coloured and text else text

    def _clear(self) -> None:
        if self._passing and self.live:
            print("\r\x1b[K", end="", file=self._out)
        self._passing = ""
