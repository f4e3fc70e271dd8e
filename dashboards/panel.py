"""What a page is made of, whoever draws it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["Page", "Panel", "Query", "Row"]

Unit = Literal["s", "bytes", "percentunit", "short", "ops", "reqps", "bool", "binBps"]


@dataclass(frozen=True, slots=True)
class Query:
    """One PromQL expression, and what its lines are called."""

    expr: str
    legend: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """One picture.

    Args:
        title: what it shows.
        unit: of its values, by Grafana's name.
        queries: its lines.
        what: how to read it, and what to do about it.
        stacked: lines are parts of a whole.
        drawn: as curves, as the newest number, or as heat: how many there were in each bucket.
        lacks: what a machine for tests lacks, so that there is no data; empty = a run shows some.
        signed: values below 0 mean something, so the axis does not begin there.
        limit: what is promised, drawn as a line; a newest number is red on its bad side, which is `worse`.
        worse: side of the limit.
        words: for values that are states, from low to high.
    """

    title: str
    unit: Unit
    queries: tuple[Query, ...]
    what: str
    stacked: bool = False
    drawn: Literal["curves", "number", "heat"] = "curves"
    lacks: str = ""
    signed: bool = False
    limit: float | None = None
    worse: Literal["above", "below"] = "above"
    words: tuple[tuple[int, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Row:
    """Panels that belong together."""

    title: str
    panels: tuple[Panel, ...]


@dataclass(frozen=True, slots=True)
class Page:
    """One dashboard.

    Args:
        name: of its file, and in its address.
        title: for people.
        rows: top to bottom: first what is felt, then why.
        of: a selector of series whose `instance` label names what the page can be narrowed to; empty = it cannot.
        past: of the time range, in Grafana's words.
        every: it is drawn anew.
    """

    name: str
    title: str
    rows: tuple[Row, ...]
    of: str = ""
    past: str = "30m"
    every: str = "10s"
