"""`GET /v1/models`: what the backends serve, from the newest state, without asking anybody."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from edge.routing.state import StateSource
from edge.streams.contracts import Reply
from streamkit.wire.errors import Code, HeadraceError
from streamkit.wire.state import Snapshot

__all__ = ["list_models", "one_model"]


def list_models(state: StateSource, shown: Callable[[str], bool] = lambda _: True) -> Reply:
    """Return OpenAI's list of the models that the caller may use.

    Raises:
        HeadraceError: NO_ROUTE; control was never heard.
    """
    models = _models(_snapshot(state))
    rows = [row for name, row in sorted(models.items()) if shown(name)]
    return Reply(status=200, body=msgspec.json.encode({"object": "list", "data": rows}))


def one_model(state: StateSource, name: str) -> Reply:
    """Return one model.

    Raises:
        HeadraceError: MODEL_NOT_FOUND, or NO_ROUTE.
    """
    models = _models(_snapshot(state))
    if name not in models:
        known = ", ".join(sorted(models)) or "none just now"
        raise HeadraceError(
            Code.MODEL_NOT_FOUND, f"The model `{name}` does not exist here; there is: {known}.", param="model"
        )
    return Reply(status=200, body=msgspec.json.encode(models[name]))


def _snapshot(state: StateSource) -> Snapshot:
    if state.snapshot is None:
        raise HeadraceError(Code.NO_ROUTE, "The control plane has not answered yet. Try again shortly.")
    return state.snapshot


def _models(snapshot: Snapshot) -> dict[str, dict[str, object]]:
    """Return a row for each model and alias by name, with the backends that serve it, those that are up first."""
    own: dict[str, list[str]] = {}
    for backend in sorted(snapshot.backends, key=lambda backend: backend.health != "up"):
        for model in backend.models:
            own.setdefault(model, []).append(backend.name)
    rows = {name: _row(name, backends) for name, backends in own.items()}
    for alias in snapshot.aliases:
        backends = dict.fromkeys(backend for model in alias.models for backend in own.get(model, ()))
        rows[alias.name] = {**_row(alias.name, list(backends)), "models": list(alias.models)}
    return rows


def _row(name: str, backends: list[str]) -> dict[str, object]:
    # `created` is required by the SDKs' types; nobody knows when a model was made.
    return {"id": name, "object": "model", "created": 0, "owned_by": "headrace", "backends": backends}
