"""Prometheus rules of an objective: error ratios over seven windows, and alerts on how fast its budget burns.

Only the shortest window reads what was scraped. The others add up what was recorded of it: three days of that are a
few thousand numbers, where three days of scrapes of a site's every series are more than one query may read.

Multi-window, multi-burn-rate (Google's SRE workbook, chapter 5; the two middle rates as sloth has them): an alert
needs the rate over a long window, so that it matters, and over a short one, so that it stops soon after the fault
does. With fewer than `min_events` in the long window nobody is called, nor with fewer than `MIN_BAD` bad ones: one
failure of two requests is no outage, and neither are the three of one bad minute after a busy evening.

A promise that leaves much room, as one about a 95th percentile does, burns slowly even where nothing is good any
more: the workbook's fastest line would need most of an hour of it. So half of everything, for a quarter of an hour,
calls as well.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from dashboards.slos import FASTEST, WINDOWS, Slo

__all__ = [
    "BAD",
    "BURNS",
    "EVENTS",
    "EVERY_S",
    "MIN_BAD",
    "MOST",
    "RUSH",
    "Burn",
    "Rules",
    "error_series",
    "events_series",
    "rules",
]

Rules = dict[str, Any]

#: Recorded: bad events a second, and all of them.
BAD: Final = f"slo:bad_events:rate{WINDOWS[0]}"
EVENTS: Final = f"slo:events:rate{WINDOWS[0]}"
#: Pause between two recordings.
EVERY_S: Final = 30
#: Bad events in the long window; fewer call nobody.
MIN_BAD: Final = 10
#: Part of all events that is too much, whatever the budget: over the long window, and over the short one still.
MOST: Final = 0.5
RUSH: Final = ("15m", "5m")


class Burn(NamedTuple):
    """One line of the workbook's table."""

    rate: float  #: times as fast as the budget of a month allows
    long: str
    short: str
    severity: str


BURNS: Final = (
    Burn(FASTEST, "1h", "5m", "page"),
    Burn(6, "6h", "30m", "page"),
    Burn(3, "1d", "2h", "ticket"),
    Burn(1, "3d", "6h", "ticket"),
)


def error_series(window: str) -> str:
    """Return the name of the recorded error ratio; sloth's names."""
    return f"slo:sli_error:ratio_rate{window}"


def events_series(window: str) -> str:
    """Return the name of the recorded number of events."""
    return f"slo:events:increase{window}"


def rules(slo: Slo) -> Rules:
    """Return the contents of a rules file."""
    series = [(BAD, slo.bad_rate), (EVENTS, slo.event_rate)]
    series += [(error_series(window), _error_ratio(slo, window)) for window in WINDOWS]
    counted = (RUSH[0], *(burn.long for burn in BURNS))
    series += [(events_series(window), f"{_sum(EVENTS, slo, window)} * {EVERY_S}") for window in counted]
    recorded = [{"record": name, "expr": expr, "labels": {"slo": slo.name}} for name, expr in series]
    alerts = [_alert(slo, severity) for severity in ("page", "ticket")]
    return {
        "groups": [
            {"name": f"headrace-slo-{slo.name}", "interval": f"{EVERY_S}s", "rules": recorded},
            {"name": f"headrace-alerts-{slo.name}", "rules": alerts},
        ]
    }


def _error_ratio(slo: Slo, window: str) -> str:
    """Return the PromQL of the part that is bad; without events it gives nothing, and no NaN."""
    return f"{_sum(BAD, slo, window)} / ({_sum(EVENTS, slo, window)} > 0)"


def _sum(series: str, slo: Slo, window: str) -> str:
    at = f'{series}{{slo="{slo.name}"}}'
    return at if window == WINDOWS[0] else f"sum_over_time({at}[{window}])"


def _alert(slo: Slo, severity: str) -> dict[str, Any]:
    fast = "within hours" if severity == "page" else "within weeks"
    burning = [
        _over(slo, burn.long, burn.short, round(burn.rate * slo.budget, 6))
        for burn in BURNS
        if burn.severity == severity
    ]
    if severity == "page":
        burning.insert(0, _over(slo, *RUSH, MOST))
    return {
        "alert": slo.alert,
        "expr": "\nor\n".join(burning),
        "labels": {"severity": severity, "slo": slo.name},
        "annotations": {
            "summary": f"The error budget of {slo.name} will be gone {fast}.",
            "description": f"Promised: {slo.says}. Now {{{{ $value | humanizePercentage }}}} of the events are bad.",
            "runbook_url": f"docs/operations/alerts/{slo.name}.md",
        },
    }


def _over(slo: Slo, long: str, short: str, limit: float) -> str:
    at = f'{{slo="{slo.name}"}}'
    return (
        f"({error_series(long)}{at} > {limit}"
        f" and {error_series(short)}{at} > {limit}"
        f" and {events_series(long)}{at} >= {slo.min_events}"
        f" and {error_series(long)}{at} * {events_series(long)}{at} >= {MIN_BAD})"
    )
