"""Where to? A pure function from one view and one request to a cacheable answer: no clock, no I/O (design §5)."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import Final

from control.settings import ControlSettings
from control.view import BackendView, Served, View
from streamkit.wire.errors import TABLE, Code
from streamkit.wire.route import Candidate, RouteAnswer, RouteRequest, Shed
from streamkit.wire.state import Freshness, freshness, sheds

__all__ = ["SHEDDABLE_FROM", "decide"]

#: Priority classes from here on make room under pressure; 1 to 3 are never shed by it.
SHEDDABLE_FROM: Final = 4
_NAMES_SHOWN: Final = 20


def decide(view: View, request: RouteRequest, settings: ControlSettings) -> RouteAnswer:
    """Return the candidates for `request`, or why there are none.

    Backends that are up are used; while none is, those that were not probed yet are, because control may have
    just started and the edges' breakers know better. Pressure follows the staleness table of design §5.
    """
    served = view.serving.get(request.model, ())
    if not served:
        return _shed(view, request, settings, *_not_served(view, request.model))
    usable = [place for place in served if place.view.health == "up" and _takes_work(place.view, settings)]
    if not usable:
        usable = [place for place in served if place.view.health == "unknown" and _takes_work(place.view, settings)]
    if not usable:
        why = _listed(f"{place.view.backend.name} ({_why_out(place.view)})" for place in served)
        return _shed(view, request, settings, Code.NO_BACKEND, f"no backend takes work for {request.model!r}: {why}")
    if request.priority_class >= SHEDDABLE_FROM:
        usable = _without_pressure(usable)
        if not usable:
            message = f"every backend for {request.model!r} is short of memory; priority 1 to 3 is still taken"
            return _shed(view, request, settings, Code.SATURATED, message)
    busy = any(place.view.pressure not in (None, "ok") for place in usable)
    return RouteAnswer(
        decision_id=_decision_id(view, request),
        ttl_ms=settings.route_ttl_ms,
        policy=settings.policy,
        candidates=tuple(_candidate(place, view, settings) for place in usable),
        hedge_after_ms=None if busy or len(usable) < 2 else settings.hedge_after_ms,
        snapshot=view.sequence,
    )


def _takes_work(view: BackendView, settings: ControlSettings) -> bool:
    return _weight(view, settings) > 0 and not _pressed_down(view)


def _pressed_down(view: BackendView) -> bool:
    """Say whether a fresh signal calls the backend down, which no priority overrules."""
    return view.pressure == "down" and freshness(view.pressure_age_ms) is Freshness.FRESH


def _without_pressure(places: Sequence[Served]) -> list[Served]:
    """Leave out what sheddable work must avoid."""
    relieved = {
        place.view.backend.name
        for place in places
        if freshness(place.view.pressure_age_ms) is Freshness.FRESH and place.view.pressure in ("ok", "busy")
    }
    return [
        place
        for place in places
        if place.view.pressure is None
        or not sheds(
            place.view.pressure,
            place.view.pressure_age_ms,
            fresh_alternative=bool(relieved - {place.view.backend.name}),
        )
    ]


def _weight(view: BackendView, settings: ControlSettings) -> float:
    return settings.region_weights.get(view.backend.region, 1.0)


def _candidate(place: Served, view: View, settings: ControlSettings) -> Candidate:
    backend = place.view.backend
    return Candidate(
        backend=backend.name,
        engine=backend.engine,
        url=backend.url,
        model=place.model,
        weight=_weight(place.view, settings),
        region=backend.region,
        max_inflight=backend.max_inflight,
        live_edges=max(1, view.live_edges),
        capabilities=place.view.capabilities,
        api_key=place.view.api_key,
    )


def _not_served(view: View, model: str) -> tuple[Code, str]:
    """Tell a wrong name (404) from a model that a silent backend may yet turn out to have (503)."""
    known = f"known models: {_listed(view.known)}" if view.known else "no backend serves any model"
    if view.undiscovered:
        silent = _listed(view.undiscovered)
        return Code.NO_BACKEND, f"no backend is known to serve {model!r}; not heard from yet: {silent}; {known}"
    return Code.MODEL_NOT_FOUND, f"the model {model!r} does not exist; {known}"


def _why_out(view: BackendView) -> str:
    if view.health == "down":
        return view.detail or "down"
    if _pressed_down(view):
        return "down, says its arbiter"
    return f"region {view.backend.region!r} has weight 0"


def _shed(view: View, request: RouteRequest, settings: ControlSettings, code: Code, message: str) -> RouteAnswer:
    # The next probe is at most one interval away.
    retry_after_ms = settings.probe_interval_ms if code is Code.NO_BACKEND else TABLE[code].retry_after_ms
    return RouteAnswer(
        decision_id=_decision_id(view, request),
        ttl_ms=settings.shed_ttl_ms,
        policy=settings.policy,
        shed=Shed(code=code.value, message=message, retry_after_ms=retry_after_ms),
        snapshot=view.sequence,
    )


def _decision_id(view: View, request: RouteRequest) -> str:
    """Return one id for one snapshot and one key: the same question gets the same decision."""
    asked = f"{view.instance}\0{view.sequence}\0{request.model}\0{request.tenant_class}\0{request.priority_class}"
    return "d-" + hashlib.blake2s(f"{asked}\0{request.transport}".encode(), digest_size=8).hexdigest()


def _listed(names: Iterable[str]) -> str:
    every = list(names)
    more = len(every) - _NAMES_SHOWN
    return ", ".join(every[:_NAMES_SHOWN]) + (f" and {more} more" if more > 0 else "")
