"""What is to run on this machine: the services of a configuration, or the ones that a person names."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from launch import config
from launch.configuration import Configuration
from streamkit.ops.settings import SettingsError, nearest
from streamkit.wire.backend import Backend

__all__ = ["Address", "Roles", "addresses", "all_of", "extras", "named"]

#: What each service needs installed beyond the rest, whatever its settings.
_EXTRAS: Final[dict[str, tuple[str, ...]]] = {
    "arbiter": ("arbiter",),
    "inference": ("inference",),
    "compositor": ("compositor",),
    "nats": ("broker",),
}
#: Services that speak to engines.
_REACH: Final = frozenset({"edge", "control", "arbiter"})


@dataclass(frozen=True, slots=True)
class Roles:
    """The services of this machine."""

    #: By the name of their table.
    settings: Mapping[str, Any]
    #: Engines that they reach.
    backends: tuple[Backend, ...]


@dataclass(frozen=True, slots=True)
class Address:
    """A place where a service will listen."""

    key: str
    host: str
    port: int


def all_of(found: Configuration) -> Roles:
    """Return everything that `headrace up` would run with this configuration."""
    names = [name for name in config.SERVICES if getattr(found, name, None) is not None]
    return Roles({name: getattr(found, name) for name in names}, found.backends)


def named(path: str | None, names: Sequence[str]) -> Roles:
    """Return services that are started one by one, each with its table of the file at `path`.

    Raises:
        SettingsError: the file cannot be used, or there is no such service.
    """
    for name in names:
        if name not in config.SERVICES:
            known = ", ".join(config.SERVICES)
            raise SettingsError(f'--service: no service "{name}"{nearest(name, config.SERVICES)}; there is: {known}')
    backends = config.backends(path) if _REACH.intersection(names) else ()
    return Roles({name: config.section(path, name) for name in names}, backends)


def extras(roles: Roles) -> Iterator[str]:
    """Yield the extras that the services need, as they are set."""
    for name in roles.settings:
        yield from _EXTRAS.get(name, ())
    edge, inference = roles.settings.get("edge"), roles.settings.get("inference")
    if edge is not None and edge.avatars.compositor_url:
        yield "webrtc"
    if edge is not None and edge.traces_url:
        yield "traces"
    if roles.settings.keys() & {"edge", "control"} and any(each.engine == "tfserving" for each in roles.backends):
        yield "tfserving"
    if inference is not None:
        if inference.device == "cuda":
            yield "gpu"
        if not inference.models and not inference.models_root:
            # The reference models, which are made at first use.
            yield "models"


def addresses(roles: Roles) -> Iterator[Address]:
    """Yield where the services will listen; ports that are chosen at the start are left out."""
    for name, settings in roles.settings.items():
        host = str(getattr(settings, "host", "127.0.0.1"))
        if port := getattr(settings, "port", 0):
            yield Address(f"{name}.port", host, port)
        if port := getattr(settings, "ops_port", 0):
            ops_host = str(getattr(settings, "ops_host", "127.0.0.1"))
            for worker in range(max(1, getattr(settings, "workers", 0))):
                yield Address(f"{name}.ops_port", ops_host, port + worker)
        if getattr(settings, "peer_host", "") and (port := getattr(settings, "peer_port", 0)):
            for worker in range(max(1, getattr(settings, "workers", 0))):
                yield Address(f"{name}.peer_port", settings.peer_host, port + worker)
