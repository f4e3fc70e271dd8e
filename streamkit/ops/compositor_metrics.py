"""The rows of the catalogue that a compositor exports: sessions, ticks, pictures and what they took."""

from __future__ import annotations

from typing import Final

from streamkit.ops.metric import Metric

__all__ = [
    "COMPOSITOR_BACKGROUNDS",
    "COMPOSITOR_CAUGHT_UP",
    "COMPOSITOR_COMPOSE",
    "COMPOSITOR_ENCODE",
    "COMPOSITOR_HELD",
    "COMPOSITOR_INFERENCE",
    "COMPOSITOR_INFERENCE_UP",
    "COMPOSITOR_KEYFRAMES",
    "COMPOSITOR_LEFT_OUT",
    "COMPOSITOR_MOUTHLESS",
    "COMPOSITOR_NEEDED",
    "COMPOSITOR_PICTURES",
    "COMPOSITOR_REFUSED",
    "COMPOSITOR_RENDERS",
    "COMPOSITOR_SESSIONS",
    "COMPOSITOR_SPEECHES",
    "COMPOSITOR_UNITS",
    "COMPOSITOR_USERS",
]

COMPOSITOR_SESSIONS: Final = Metric("headrace_compositor_sessions", "gauge", "Avatar sessions that are open.")
COMPOSITOR_RENDERS: Final = Metric(
    "headrace_compositor_renders", "gauge", "Calls for pictures as files that are answered now."
)
COMPOSITOR_UNITS: Final = Metric("headrace_compositor_units", "counter", "Ticks sent: idle, speaking.", ("kind",))
COMPOSITOR_PICTURES: Final = Metric(
    "headrace_compositor_pictures",
    "counter",
    "Pictures sent: from a shared loop, encoded for one session (live), as a file.",
    ("source",),
)
COMPOSITOR_LEFT_OUT: Final = Metric(
    "headrace_compositor_left_out",
    "counter",
    "Ticks without a picture: no room at the edge, late, or held for a mouth.",
    ("why",),
)
COMPOSITOR_KEYFRAMES: Final = Metric("headrace_compositor_keyframes", "counter", "Keyframes sent.", ("codec",))
_FRAME: Final = (0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.004, 0.006, 0.008, 0.012, 0.016, 0.025, 0.04, 0.08, 0.16)
COMPOSITOR_COMPOSE: Final = Metric(
    "headrace_compositor_compose_seconds", "histogram", "Drawing one picture.", (), _FRAME
)
COMPOSITOR_ENCODE: Final = Metric(
    "headrace_compositor_encode_seconds", "histogram", "Encoding one picture.", ("codec",), _FRAME
)
COMPOSITOR_INFERENCE: Final = Metric(
    "headrace_compositor_inference_seconds",
    "histogram",
    "From asking for a mouth to having it.",
    (),
    (*_FRAME, 0.32, 0.64, 1.28),
)
COMPOSITOR_NEEDED: Final = Metric(
    "headrace_compositor_needed_seconds",
    "histogram",
    "From the last sample that a tick of speech needed to its unit; beyond a second: spoken text, made ahead.",
    (),
    (*_FRAME, 0.32, 0.64, 1.28),
)
COMPOSITOR_MOUTHLESS: Final = Metric(
    "headrace_compositor_mouthless", "counter", "Ticks of speech whose mouth could not be had, by why.", ("code",)
)
COMPOSITOR_CAUGHT_UP: Final = Metric(
    "headrace_compositor_caught_up",
    "counter",
    "Ticks of a microphone's silence left out, because its face had fallen behind.",
)
COMPOSITOR_SPEECHES: Final = Metric(
    "headrace_compositor_speeches", "counter", "Utterances that ended: finished, interrupted, failed.", ("outcome",)
)
COMPOSITOR_REFUSED: Final = Metric("headrace_compositor_refused", "counter", "Calls refused, by why.", ("code",))
COMPOSITOR_BACKGROUNDS: Final = Metric(
    "headrace_compositor_backgrounds",
    "counter",
    "Backgrounds asked for that were in memory (hit) or had to be opened (miss).",
    ("result",),
)
COMPOSITOR_HELD: Final = Metric(
    "headrace_compositor_held_bytes", "gauge", "Bytes of frames, and of loops encoded already.", ("what",)
)
COMPOSITOR_USERS: Final = Metric("headrace_compositor_users", "gauge", "Who uses frames and loops now.", ("what",))
COMPOSITOR_INFERENCE_UP: Final = Metric(
    "headrace_compositor_inference_up", "gauge", "1 while the inference server answers."
)
