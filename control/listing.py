"""What control shows to people and to the edges' `/v1/models`. No keys in it."""

from __future__ import annotations

import msgspec

from control.health import Health
from control.registry import Registry
from control.view import View
from streamkit.wire.backend import Backend, Engine
from streamkit.wire.state import BackendState, Header

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


class BackendList(msgspec.Struct, frozen=True, kw_only=True):
    """`GET /v1/backends`."""

    live_edges: int
    data: tuple[BackendLine, ...]


def model_list(view: View) -> ModelList:
    """Return every known model, in order of name, with the backends that serve it."""
    return ModelList(
        data=tuple(
            Model(
                id=model,
                backends=tuple(
                    Place(
                        name=served.view.backend.name,
                        health=served.view.health,
                        simulated=served.view.capabilities.simulated,
                    )
                    for served in view.serving[model]
                ),
            )
            for model in view.known
        )
    )


def backend_list(registry: Registry) -> BackendList:
    """Return every configured backend with its health as of now."""
    states = registry.snapshot(Header(instance="", sequence=0)).backends
    return BackendList(
        live_edges=registry.live_edges,
        data=tuple(
            _line(backend, state, registry.inflight(backend.name))
            for backend, state in zip(registry.backends, states, strict=True)
        ),
    )


def _line(backend: Backend, state: BackendState, inflight: int) -> BackendLine:
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
    )
