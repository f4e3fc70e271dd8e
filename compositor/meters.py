"""The compositor's figures: counted as they happen, or read at a scrape."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from compositor.encode.codecs import NAMES
from compositor.session.lines import Outcome
from streamkit.ops import catalog
from streamkit.ops.metrics import Metrics
from streamkit.wire.errors import Code

if TYPE_CHECKING:
    from compositor.studio import Studio

__all__ = ["Meters", "watch"]

Rows = Iterable[tuple[tuple[str, ...], float]]


class Meters:
    """What is counted.

    Args:
        metrics: where to.
    """

    def __init__(self, metrics: Metrics) -> None:
        self.compose = metrics.histogram(catalog.COMPOSITOR_COMPOSE)
        self.encode = {codec: metrics.histogram(catalog.COMPOSITOR_ENCODE, name) for codec, name in NAMES.items()}
        self.inference = metrics.histogram(catalog.COMPOSITOR_INFERENCE)
        self.needed = metrics.histogram(catalog.COMPOSITOR_NEEDED)
        self.keyframes = {codec: metrics.counter(catalog.COMPOSITOR_KEYFRAMES, name) for codec, name in NAMES.items()}
        self.idle_units = metrics.counter(catalog.COMPOSITOR_UNITS, "idle")
        self.speaking_units = metrics.counter(catalog.COMPOSITOR_UNITS, "speaking")
        self.looped = metrics.counter(catalog.COMPOSITOR_PICTURES, "loop")
        self.live = metrics.counter(catalog.COMPOSITOR_PICTURES, "live")
        self.rendered = metrics.counter(catalog.COMPOSITOR_PICTURES, "file")
        self.no_room = metrics.counter(catalog.COMPOSITOR_LEFT_OUT, "room")
        self.late = metrics.counter(catalog.COMPOSITOR_LEFT_OUT, "late")
        self.held = metrics.counter(catalog.COMPOSITOR_LEFT_OUT, "hold")
        self.caught_up = metrics.counter(catalog.COMPOSITOR_CAUGHT_UP)
        self.mouthless = {code: metrics.counter(catalog.COMPOSITOR_MOUTHLESS, code.value) for code in Code}
        self.speeches = {outcome: metrics.counter(catalog.COMPOSITOR_SPEECHES, outcome.value) for outcome in Outcome}
        self.refused = {code: metrics.counter(catalog.COMPOSITOR_REFUSED, code.value) for code in Code}


def watch(metrics: Metrics, studio: Studio) -> None:
    """Show what is open and held."""
    scenes, loops = studio.gallery.scenes, studio.loops.kept
    metrics.watch(catalog.COMPOSITOR_RENDERS, lambda: [((), float(studio.renders))])
    metrics.watch(catalog.COMPOSITOR_SESSIONS, lambda: [((), float(studio.sessions))])
    metrics.watch(
        catalog.COMPOSITOR_BACKGROUNDS,
        lambda: [(("hit",), float(scenes.hits)), (("miss",), float(scenes.misses))],
    )
    metrics.watch(
        catalog.COMPOSITOR_HELD,
        lambda: [(("frames",), float(scenes.used_bytes)), (("loops",), float(loops.used_bytes))],
    )
    metrics.watch(
        catalog.COMPOSITOR_USERS, lambda: [(("frames",), float(scenes.users)), (("loops",), float(loops.users))]
    )
    metrics.watch(catalog.COMPOSITOR_INFERENCE_UP, lambda: [((), float(studio.link.answers))])
