"""The rows of the catalogue that tell of avatars at an edge: sessions, viewers, and what becomes of units."""

from __future__ import annotations

from typing import Final

from streamkit.ops.metric import Metric

__all__ = [
    "AVATAR_KEYFRAMES",
    "AVATAR_REAPED",
    "AVATAR_SESSIONS",
    "AVATAR_SETUP",
    "AVATAR_UNITS",
    "AVATAR_VIEWERS",
]

AVATAR_SESSIONS: Final = Metric("headrace_avatar_sessions", "gauge", "Avatar sessions that this edge holds open.")
AVATAR_VIEWERS: Final = Metric(
    "headrace_avatar_viewers", "gauge", "Viewers of avatars, by transport.", ("transport",)
)
AVATAR_UNITS: Final = Metric(
    "headrace_avatar_units",
    "counter",
    "Units for each viewer: sent; or dropped: overflow, epoch (interrupted), keyframe (waits for one), stale.",
    ("fate",),
)
AVATAR_KEYFRAMES: Final = Metric(
    "headrace_avatar_keyframe_requests", "counter", "Keyframes that were asked of the compositor."
)
AVATAR_REAPED: Final = Metric(
    "headrace_avatar_reaped",
    "counter",
    "Viewers that were given up: silent, or unconnected (never reached, or gone before).",
    ("why",),
)
AVATAR_SETUP: Final = Metric(
    "headrace_avatar_setup_seconds",
    "histogram",
    "From a viewer's request to its connected transport.",
    ("transport",),
    (0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 2.0, 3.0, 5.0, 10.0, 15.0),
)
