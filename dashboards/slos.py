"""The objectives of `slos.toml`, and the PromQL of their events."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

__all__ = ["FASTEST", "SLOS_FILE", "WINDOWS", "Slo", "SloError", "read"]

SLOS_FILE: Final = Path(__file__).parent / "slos.toml"
#: Short to long: what alerts and pages look at.
WINDOWS: Final = ("5m", "15m", "30m", "1h", "2h", "6h", "1d", "3d")
#: The burn rate of the fastest alert: a fiftieth of a month's budget in an hour (SRE workbook, chapter 5).
FASTEST: Final = 14.4
_KEYS: Final = frozenset({"name", "alert", "says", "objective", "min_events"})
_LATENCY: Final = frozenset({"metric", "threshold_s"})
_RATIO: Final = frozenset({"bad", "all"})


class SloError(ValueError):
    """`slos.toml` cannot be used; the message says which objective and why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Slo:
    """One objective.

    Args:
        name: `slo` label of its series.
        alert: name of its alerts.
        says: what is promised, for people.
        objective: part of the events that must be good.
        min_events: fewer in an alert's long window call nobody.
        metric: histogram of a latency objective; empty = a ratio.
        threshold_s: good is at most so long.
        bad: selectors of counters that count bad events.
        all: selectors of counters that count all of them.
    """

    name: str
    alert: str
    says: str
    objective: float
    min_events: int
    metric: str = ""
    threshold_s: float = 0.0
    bad: tuple[str, ...] = ()
    all: tuple[str, ...] = ()

    @property
    def budget(self) -> float:
        """Part of the events that may be bad."""
        return round(1 - self.objective, 6)

    @property
    def bad_rate(self) -> str:
        """PromQL of the bad events a second, over the shortest window."""
        if not self.metric:
            return _rates(self.bad)
        good = f'sum(rate({self.metric}_bucket{{le="{self.threshold_s}"}}[{WINDOWS[0]}]))'
        return f"{self.event_rate} - {good}"

    @property
    def event_rate(self) -> str:
        """PromQL of all events a second, over the shortest window."""
        return f"sum(rate({self.metric}_count[{WINDOWS[0]}]))" if self.metric else _rates(self.all)


def _rates(selectors: tuple[str, ...]) -> str:
    return " + ".join(f"(sum(rate({selector}[{WINDOWS[0]}])) or vector(0))" for selector in selectors)


def read(path: Path = SLOS_FILE) -> tuple[Slo, ...]:
    """Return the objectives of a file.

    Raises:
        SloError: one of them makes no sense.
    """
    tables: list[dict[str, Any]] = tomllib.loads(path.read_text(encoding="utf-8")).get("slo", [])
    found = tuple(_slo(table) for table in tables)
    for key in ("name", "alert"):
        values = [getattr(slo, key) for slo in found]
        if len(set(values)) != len(values):
            raise SloError(f"{key}: two objectives have the same one")
    return found


def _slo(table: dict[str, Any]) -> Slo:
    name = table.get("name", "?")
    keys = set(table)
    if keys not in (_KEYS | _LATENCY, _KEYS | _RATIO):
        strange, missing = sorted(keys - _KEYS - _LATENCY - _RATIO), sorted(_KEYS - keys)
        raise SloError(
            f"{name}: expected {sorted(_KEYS)} and either {sorted(_LATENCY)} or {sorted(_RATIO)};"
            f" unknown: {strange}, missing: {missing}"
        )
    fields: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in table.items()}
    slo = Slo(**fields)
    if not 1 - 1 / FASTEST < slo.objective < 1:
        raise SloError(f"{name}: objective: expected more than {1 - 1 / FASTEST:.4f} and less than 1")
    if slo.min_events < 1:
        raise SloError(f"{name}: min_events: expected at least 1")
    return slo
