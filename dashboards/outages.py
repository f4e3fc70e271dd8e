"""Alerts that need no traffic: where there are no events, no promise can be seen to be broken."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from dashboards.burn import Rules
from streamkit.ops import catalog

__all__ = ["OUTAGES", "Outage", "outage_rules"]


class Outage(NamedTuple):
    """One alert."""

    name: str  #: of its runbook
    alert: str
    expr: str
    after: str  #: how long it must last
    summary: str
    severity: str = "page"


#: As the configurations of Prometheus call what they scrape, in docker/ and by `headrace metrics --scrape-config`.
_JOBS: Final = ("edge", "control", "arbiter", "inference", "observe", "compositor")

OUTAGES: Final = (
    Outage(
        "no-edge",
        "HeadraceNoEdge",
        f"absent({catalog.STREAMS_OPEN.name})",
        "2m",
        "No edge exports anything: none runs, or Prometheus reaches none.",
    ),
    Outage(
        "control-away",
        "HeadraceControlAway",
        # What edges have cached serves for ten minutes. One that never heard of control has nothing, and no age.
        f"max({catalog.CONTROL_AGE.name}) > 60\nor\n"
        f"count({catalog.STREAMS_OPEN.name} unless on (job, instance) {catalog.CONTROL_AGE.name}) > 0",
        "2m",
        "An edge has not heard of control for minutes, or never; it refuses what is new, or will after ten.",
    ),
    Outage(
        "no-backend",
        "HeadraceNoBackend",
        # Where requests are few the promises are silent for as long as it lasts.
        f"max({catalog.BACKEND_UP.name}) == 0",
        "2m",
        "Control finds no backend healthy: every request is refused.",
    ),
    Outage(
        "process-down",
        "HeadraceProcessDown",
        f'up{{job=~"(headrace-)?({"|".join(_JOBS)})"}} == 0',
        "10m",
        "Prometheus does not reach {{ $labels.instance }} ({{ $labels.job }}); others have its work.",
        "ticket",
    ),
)


def outage_rules() -> Rules:
    """Return the contents of a rules file."""
    rules: list[dict[str, Any]] = [
        {
            "alert": outage.alert,
            "expr": outage.expr,
            "for": outage.after,
            "labels": {"severity": outage.severity},
            "annotations": {"summary": outage.summary, "runbook_url": f"docs/operations/alerts/{outage.name}.md"},
        }
        for outage in OUTAGES
    ]
    return {"groups": [{"name": "headrace-outages", "rules": rules}]}
