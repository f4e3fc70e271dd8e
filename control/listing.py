"""What control shows to people and to the edges' `/v1/models`. No keys in it."""

from __future__ import annotations

import msgspec

from control.arbiters import Word
from control.health import Health
from control.registry import Registry
from control.view import View
from streamkit.wire.backend import Backend, Engine
from streamkit.wire.state import BackendState, Header, Pressure

__all__ = ["BackendList", "ModelList", "backend_list", "model_list"]


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """A backend that serves a model."""

    name: str
    health: Health
    simulated: bool


class Model(msgspec.Struct, frozen=True, kw_only=True):
    """One model in OpenAI's shape, and where it is served."""

    id: str
    object: str = "model"
    created: int = 0
    owned_by: str = "headrace"
    backends: tuple[Place, ...]
    #: What an alias stands for, best first; empty = it is a model of its own.
    models: tuple[str, ...] = ()


class ModelList(msgspec.Struct, frozen=True, kw_only=True):
    """`GET /v1/models`."""

    object: str = "list"
    data: tuple[Model, ...]


class BackendLine(msgspec.Struct, frozen=True, kw_only=True):
    """One backend: how it is configured and how it is."""

    name: str
    engine: Engine
    url: str
    region: str
    max_inflight: int
    simulated: bool
    health: Health
    models: tuple[str, ...]
    #: Milliseconds since the last finished probe.
    age_ms: int
    detail: str
    #: Requests in flight, as the edges last reported them.
    inflight: int
    #: Its arbiter's last word on it; None = there is none.
    pressure: Pressure | None
    pressure_age_ms: int | None
    #: A healing act keeps new work away from it, on every node …
    held: bool
    #: … or on these only.
    held_nodes: tuple[str, ...]
    #: Models that are loaded, where its arbiter says so; None = nobody says.
    resident: tuple[str, ...] | None


class BackendList(msgspec.Struct, frozen=True, kw_only=True):
    """`GET /v1/backends`."""

    live_edges: int
    data: tuple[BackendLine, ...]


def model_list(view: View) -> ModelList:
    """Return every known model and alias, in order of name, with the backends that serve it."""
    aliases = {alias.name: alias.models for alias in view.models.aliases}
    return ModelList(
        data=tuple(
            Model(id=name, backends=_places(view, name), models=aliases.get(name, ()))
            for name in sorted({*view.known, *aliases})
        )
    )


def _places(view: View, name: str) -> tuple[Place, ...]:
    """Return who serves a name, each backend once, in the order in which they would be asked."""
    found: dict[str, Place] = {}
    for model in view.models.chain(name):
        for served in view.serving.get(model, ()):
            backend = served.view.backend.name
            found.setdefault(backend, Place(
                name=backend, health=served.view.health, simulated=served.view.capabilities.simulated,
            ))  # fmt: skip
    return tuple(found.values())


def backend_list(registry: Registry) -> BackendList:
    """Return every configured backend with its health as of now."""
    states = registry.snapshot(Header(instance="", sequence=0)).backends
    return BackendList(
        live_edges=registry.live_edges,
        data=tuple(
            msgspec.structs.replace(
                _line(backend, state, registry.inflight(backend.name), registry.arbiters.word(backend.name)),
                held="" in (nodes := registry.holds.of(backend.name)),
                held_nodes=tuple(filter(None, nodes)),
            )
            for backend, state in zip(registry.backends, states, strict=True)
        ),
    )


def _line(backend: Backend, state: BackendState, inflight: int, word: Word | None) -> BackendLine:
    return BackendLine(
        name=backend.name,
        engine=backend.engine,
        url=backend.url,
        region=backend.region,
        max_inflight=backend.max_inflight,
        simulated=backend.effective_capabilities().simulated,
        health=state.health,
        models=state.models,
        age_ms=state.age_ms,
        detail=state.detail,
        inflight=inflight,
        pressure=None if word is None else word.pressure,
        pressure_age_ms=None if word is None else word.age_ms,
        held=False,
        held_nodes=(),
        resident=None
        if word is None or not word.models
        else tuple(sorted(model for model, where in word.models.items() if where == "resident")),
    )
