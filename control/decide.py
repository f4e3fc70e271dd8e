"""Where to? A pure function from one view and one request to a cacheable answer: no clock, no I/O (design §5)."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import Final

import msgspec

from control.health import Health
from control.settings import ControlSettings
from control.view import BackendView, Served, View
from streamkit.wire.errors import TABLE, Code
from streamkit.wire.route import Candidate, RouteAnswer, RouteRequest, Shed
from streamkit.wire.state import Freshness, freshness, sheds

__all__ = ["SHEDDABLE_FROM", "decide", "wanted"]

#: Priority classes from here on make room under pressure; 1 to 3 are never shed by it.
SHEDDABLE_FROM: Final = 4
_NAMES_SHOWN: Final = 20
#: A model whose memory others hold is not there sooner.
_ROOM_RETRY_MS: Final = 2_000


def decide(view: View, request: RouteRequest, settings: ControlSettings) -> RouteAnswer:
    """Return the candidates for `request`, or why there are none.

    Backends that are up are used; while none is, those that were not probed yet are, because control may have
    just started and the edges' breakers know better. Pressure follows the staleness table of design §5. Of an alias's
    chain every model that takes work is named, in order, and after it what stands in for them: edges go on to the
    next one when the first has no room. What is decided is decided without held backends, where somebody else takes
    work; they are named beside the others all the same, for edges that have to end a hold by themselves, and leave
    them out until then. A probe gets the backend that it names, however that is.
    """
    chain = _chain(view, request.model)
    if request.backend:
        return _pinned(view, request, settings, chain)
    if not any(chain):
        return _shed(view, request, settings, *_not_served(view, request.model))
    usable = _with_health(chain, "up", settings)
    if not any(usable):
        usable = _with_health(chain, "unknown", settings)
    if not any(usable):
        served = (place for places in chain for place in places)
        why = _listed(f"{place.view.backend.name} ({_why_out(place.view)})" for place in served)
        return _shed(view, request, settings, Code.NO_BACKEND, f"no backend takes work for {request.model!r}: {why}")
    held: list[list[Served]] = [[] for _ in usable]
    if any(spared := [[place for place in places if not place.view.held] for places in usable]):
        held = [[place for place in places if place.view.held] for places in usable]
        usable = spared
    if request.priority_class >= SHEDDABLE_FROM:
        usable = _without_pressure(usable)
        if not any(usable):
            message = f"every backend for {request.model!r} is under pressure; priority 1 to 3 is still taken"
            return _shed(view, request, settings, Code.SATURATED, message)
    usable = [_not_cold(places) for places in usable]
    if not any(usable):
        message = f"{request.model!r} is not loaded, and room is being made for it"
        return _shed(view, request, settings, Code.NO_BACKEND, message, _ROOM_RETRY_MS)
    # A hedge asks the same model elsewhere: another one would be another answer.
    first = next(places for places in usable if places)
    busy = len(first) < 2 or any(place.view.pressure not in (None, "ok") for place in first)
    return RouteAnswer(
        decision_id=_decision_id(view, request),
        ttl_ms=settings.route_ttl_ms,
        policy=settings.policy,
        candidates=tuple(
            _candidate(place, rank, view, settings)
            for rank, (places, aside) in enumerate(zip(usable, held, strict=True))
            for place in (*places, *aside)
        ),
        hedge_after_ms=None if busy else settings.hedge_after_ms,
        snapshot=view.sequence,
    )


def _pinned(view: View, request: RouteRequest, settings: ControlSettings, chain: list[list[Served]]) -> RouteAnswer:
    """Return the one backend that a probe names, if it is known to serve the model."""
    for places in chain:
        for place in places:
            if place.view.backend.name == request.backend:
                return RouteAnswer(
                    decision_id=_decision_id(view, request),
                    ttl_ms=settings.route_ttl_ms,
                    candidates=(msgspec.structs.replace(_candidate(place, 0, view, settings), weight=1.0),),
                    snapshot=view.sequence,
                )
    message = f"the backend {request.backend!r} is not known to serve {request.model!r}"
    return _shed(view, request, settings, Code.NO_BACKEND, message)


def _chain(view: View, name: str) -> list[list[Served]]:
    """Return where each model that may answer for `name` is served, best first."""
    named = view.models.chain(name)
    chain = [list(view.serving.get(model, ())) for model in named]
    kind = next((_predicts(place) for places in chain for place in places), None)
    for model in view.models.stand_ins(named):
        places = view.serving.get(model, ())
        chain.append([place for place in places if kind is None or _predicts(place) is kind])
    return chain


def _predicts(place: Served) -> bool:
    """Say whether predictions are asked of it, and no chats: nobody translates one into the other."""
    return place.view.backend.engine == "tfserving"


def _with_health(chain: list[list[Served]], health: Health, settings: ControlSettings) -> list[list[Served]]:
    """Return of each model in the chain the places with that health which take work."""
    return [[place for place in places if place.view.health == health and _takes_work(place.view, settings)]
            for places in chain]  # fmt: skip


def _takes_work(view: BackendView, settings: ControlSettings) -> bool:
    return _weight(view, settings) > 0 and not _pressed_down(view)


def _pressed_down(view: BackendView) -> bool:
    """Say whether a fresh signal calls the backend down, which no priority overrules."""
    return view.pressure == "down" and freshness(view.pressure_age_ms) is Freshness.FRESH


def _without_pressure(chain: Sequence[Sequence[Served]]) -> list[list[Served]]:
    """Leave out what sheddable work must avoid; an alternative is one anywhere in the chain."""
    relieved = {
        place.view.backend.name
        for places in chain
        for place in places
        if freshness(place.view.pressure_age_ms) is Freshness.FRESH and place.view.pressure in ("ok", "busy")
    }

    def stays(view: BackendView) -> bool:
        others = bool(relieved - {view.backend.name})
        return view.pressure is None or not sheds(view.pressure, view.pressure_age_ms, fresh_alternative=others)

    return [[place for place in places if stays(place.view)] for places in chain]


def _not_cold(places: Sequence[Served]) -> list[Served]:
    """Prefer the places where a model is resident; else those that will load it while the request waits there."""
    at = [(place, place.view.residence.get(place.model)) for place in places]
    ready = [place for place, where in at if where in (None, "resident")]
    return ready or [place for place, where in at if where != "no_room"]


def wanted(view: View, request: RouteRequest) -> Served | None:
    """Return where the asked model should be loaded, if it is resident nowhere it is served; None = nowhere."""
    for model in view.models.chain(request.model):
        up = [place for place in view.serving.get(model, ()) if place.view.health == "up"]
        at = [(place, place.view.residence.get(place.model)) for place in up]
        if any(where in (None, "resident") for _, where in at):
            return None
        if at:
            return min(at, key=lambda one: one[1] == "no_room")[0]
    return None


def _weight(view: BackendView, settings: ControlSettings) -> float:
    return settings.region_weights.get(view.backend.region, 1.0)


def _candidate(place: Served, rank: int, view: View, settings: ControlSettings) -> Candidate:
    backend = place.view.backend
    return Candidate(
        backend=backend.name,
        engine=backend.engine,
        url=backend.url,
        api=backend.api,
        ollama=backend.ollama,
        model=place.model,
        rank=rank,
        weight=_weight(place.view, settings),
        region=backend.region,
        max_inflight=backend.max_inflight,
        live_edges=max(1, view.live_edges),
        capabilities=place.view.capabilities,
        continues=place.view.capabilities.prefill and view.models.continues(place.model),
        api_key=place.view.api_key,
    )


def _not_served(view: View, model: str) -> tuple[Code, str]:
    """Tell a wrong name (404) from a model that a silent backend may yet turn out to have (503)."""
    known = f"known models: {_listed(view.known)}" if view.known else "no backend serves any model"
    if aliases := [alias.name for alias in view.models.aliases]:
        known += f"; aliases: {_listed(aliases)}"
    chain = view.models.chain(model)
    if chain != (model,):
        return Code.NO_BACKEND, f"no backend serves any model of the alias {model!r} ({_listed(chain)}); {known}"
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


def _shed(
    view: View,
    request: RouteRequest,
    settings: ControlSettings,
    code: Code,
    message: str,
    retry_after_ms: int | None = None,
) -> RouteAnswer:
    if retry_after_ms is None:
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
    return (
        "d-" + hashlib.blake2s(f"{asked}\0{request.transport}\0{request.backend}".encode(), digest_size=8).hexdigest()
    )


def _listed(names: Iterable[str]) -> str:
    every = list(names)
    more = len(every) - _NAMES_SHOWN
    return ", ".join(every[:_NAMES_SHOWN]) + (f" and {more} more" if more > 0 else "")
