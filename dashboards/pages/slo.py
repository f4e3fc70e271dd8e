"""What is promised, and how fast the promises' error budgets burn."""

from __future__ import annotations

from typing import Final

from dashboards.burn import BURNS, MIN_BAD, error_series, events_series
from dashboards.panel import Page, Panel, Query, Row
from dashboards.query import zero
from dashboards.slos import Slo, read

__all__ = ["SLO"]

_FIRING: Final = (
    'sum by (alertname, severity) (ALERTS{alertstate="firing", alertname=~"Headrace.*"}) or on() '
    + zero("alertname", "severity")
)


def _row(slo: Slo) -> Row:
    at = f'{{slo="{slo.name}"}}'
    return Row(
        f"{slo.name}: {slo.says}",
        (
            Panel(
                title=f"{slo.name}: budget left of three days",
                unit="percentunit",
                queries=(Query(f"1 - {error_series('3d')}{at} / {slo.budget}", "left"),),
                what="Below 0 the promise is broken; no data = no events in three days.",
                drawn="number",
                limit=0,
                worse="below",
            ),
            Panel(
                title=f"{slo.name}: bad events",
                unit="percentunit",
                queries=tuple(Query(f"{error_series(window)}{at}", window) for window in ("5m", "1h", "6h")),
                what=f"The line is the budget, {100 * slo.budget:g} %.",
                limit=slo.budget,
            ),
            Panel(
                title=f"{slo.name}: burn rate",
                unit="short",
                queries=tuple(
                    Query(
                        f"{error_series(burn.long)}{at} / {slo.budget}",
                        f"{burn.long}: {burn.severity} at {burn.rate:g}",
                    )
                    for burn in BURNS
                ),
                what="How many times faster than the budget of a month allows; at 1, the line, it lasts that month.",
                limit=1,
            ),
            Panel(
                title=f"{slo.name}: events in an hour",
                unit="short",
                queries=(Query(f"{events_series('1h')}{at}", "events"),),
                what=f"Below the line, {slo.min_events}, nobody is called; nor with fewer than {MIN_BAD} bad ones.",
                limit=slo.min_events,
                worse="below",
            ),
        ),
    )


_ALERTS: Final = Row(
    "Alerts",
    (
        Panel(
            title="Burning now",
            unit="short",
            queries=(Query(_FIRING, "{{alertname}} {{severity}}"),),
            what="Each has a runbook in docs/operations/alerts.",
        ),
    ),
)

SLO: Final = Page("slo", "Headrace · Promises", (_ALERTS, *map(_row, read())), past="6h", every="1m")
