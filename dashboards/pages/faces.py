"""Faces: who watches them at an edge, and how a compositor makes them."""

from __future__ import annotations

from typing import Final

from dashboards.panel import Panel, Query, Row
from dashboards.query import level, quantile, rate
from streamkit.ops import catalog

__all__ = ["VIEWERS"]

VIEWERS: Final = Row(
    "Viewers, at the edge",
    (
        Panel(
            title="Avatar sessions and viewers",
            unit="short",
            queries=(
                Query(level(catalog.AVATAR_SESSIONS), "sessions"),
                Query(level(catalog.AVATAR_VIEWERS, "transport"), "viewers by {{transport}}"),
            ),
            what="Many may watch one session; both return to 0.",
        ),
        Panel(
            title="Units by fate",
            unit="ops",
            queries=(Query(rate(catalog.AVATAR_UNITS, "fate"), "{{fate}}"),),
            what="25 a second for each viewer. overflow: it reads too slowly; keyframe: it waits for one after that.",
            stacked=True,
        ),
        Panel(
            title="Keyframes asked for, viewers given up",
            unit="ops",
            queries=(
                Query(rate(catalog.AVATAR_KEYFRAMES), "keyframes"),
                Query(rate(catalog.AVATAR_REAPED, "why"), "given up: {{why}}"),
            ),
            what="Loss on the way to a viewer costs keyframes, which weigh; unconnected: its ICE never succeeded.",
        ),
        Panel(
            title="A viewer's way in, p95",
            unit="s",
            queries=(Query(quantile(0.95, catalog.AVATAR_SETUP, "transport"), "{{transport}}"),),
            what="From its request to its connected transport.",
        ),
    ),
)
