"""Which streams there are: each site's own, and at the hub the one that gathers them."""

from __future__ import annotations

from observe.settings import ObserveSettings
from streamkit.ops.jetstream import Source, StreamPlan
from streamkit.wire.telemetry import CENTRAL, EVENTS, subjects

__all__ = ["central", "planned", "site"]


def site(settings: ObserveSettings) -> StreamPlan:
    """Return the plan of the stream of a site's own events."""
    return StreamPlan(
        name=EVENTS,
        subjects=(subjects(settings.site_name),),
        max_bytes=settings.stream_bytes,
        max_age_s=settings.stream_age_ms / 1000,
    )


def central(settings: ObserveSettings) -> StreamPlan:
    """Return the plan of the stream that gathers all sites' events, the hub's own among them."""
    others = (name for name in settings.sites if name != settings.site_name)
    return StreamPlan(
        name=CENTRAL,
        sources=(Source(stream=EVENTS), *(Source(stream=EVENTS, domain=name) for name in others)),
        max_bytes=settings.stream_bytes,
        max_age_s=settings.stream_age_ms / 1000,
    )


def planned(settings: ObserveSettings) -> tuple[StreamPlan, ...]:
    """Return the plans of all streams of one broker; the last one is what readers read."""
    own = site(settings)
    return (own, central(settings)) if settings.role == "central" else (own,)
