"""What a routing decision may look at: one immutable picture, indexed by model."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from control.health import Health
from streamkit.wire.backend import Backend, Capabilities
from streamkit.wire.models import Models
from streamkit.wire.state import Pressure, Residence

__all__ = ["BackendView", "Served", "View"]


@dataclass(frozen=True, slots=True, kw_only=True)
class BackendView:
    """One backend as decisions see it."""

    backend: Backend
    health: Health
    #: None = not known yet.
    models: tuple[str, ...] | None
    detail: str = ""
    capabilities: Capabilities
    api_key: str = ""
    #: The arbiter's last word on it and its age in milliseconds; None = there never was one.
    pressure: Pressure | None = None
    pressure_age_ms: int | None = None
    #: Where its models are, while its arbiter is heard.
    residence: Mapping[str, Residence] = field(default_factory=dict)
    #: A healing act keeps new work away from it.
    held: bool = False


@dataclass(frozen=True, slots=True)
class Served:
    """A model at a backend, under the engine's own name."""

    view: BackendView
    model: str


@dataclass(frozen=True, slots=True)
class View:
    """All backends at one snapshot."""

    instance: str
    sequence: int
    live_edges: int
    backends: tuple[BackendView, ...]
    #: Where each name that may be asked for is served.
    serving: Mapping[str, tuple[Served, ...]]
    #: Models for people, in order; without aliases.
    known: tuple[str, ...]
    #: Names of backends whose models nobody knows yet.
    undiscovered: tuple[str, ...]
    #: Aliases and policies, as configured.
    models: Models = field(default_factory=Models)

    @classmethod
    def of(
        cls,
        instance: str,
        sequence: int,
        live_edges: int,
        backends: Iterable[BackendView],
        models: Models = Models(),  # noqa: B008 - frozen
    ) -> View:
        """Return the view of `backends`, indexed."""
        views = tuple(backends)
        serving: dict[str, list[Served]] = {}
        known: set[str] = set()
        for view in views:
            for model in view.models or ():
                known.add(model)
                for name in _names(view, model):
                    serving.setdefault(name, []).append(Served(view, model))
        return cls(
            instance,
            sequence,
            live_edges,
            views,
            MappingProxyType({name: tuple(places) for name, places in serving.items()}),
            tuple(sorted(known)),
            tuple(view.backend.name for view in views if view.models is None),
            models,
        )


def _names(view: BackendView, model: str) -> tuple[str, ...]:
    """Return what `model` may be called: Ollama takes a name without a tag for the tag `latest`."""
    untagged = model.removesuffix(":latest")
    if view.backend.engine == "ollama" and untagged != model and untagged not in (view.models or ()):
        return model, untagged
    return (model,)
