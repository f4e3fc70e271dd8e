"""One file for all services: reading `headrace.toml`, and refusing what could not run."""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from urllib.parse import urlsplit

import msgspec

from launch import toml
from streamkit.ops import settings
from streamkit.ops.settings import SettingsError
from streamkit.wire.backend import Backend

if TYPE_CHECKING:
    from control.settings import ControlSettings
    from edge.settings import EdgeSettings
    from simulator.settings import SimulatorSettings

__all__ = [
    "PORT_BASE",
    "SIMULATOR_OFFSET",
    "Configuration",
    "backends",
    "load",
    "notes",
    "of_machine",
    "ports",
    "section",
]

PORT_BASE: Final = 7400
#: A service's own default is its port on base 7400; the simulator's own default is any free port.
SIMULATOR_OFFSET: Final = 30

#: Imported only by who needs them: an edge process loads nothing of control's.
_SECTIONS: Final = {
    "edge": ("edge.settings", "EdgeSettings"),
    "control": ("control.settings", "ControlSettings"),
    "simulator": ("simulator.settings", "SimulatorSettings"),
}
_TABLES: Final = (*_SECTIONS, "backends")


@dataclass(frozen=True, slots=True)
class Configuration:
    """Everything that one machine runs."""

    edge: EdgeSettings
    control: ControlSettings
    backends: tuple[Backend, ...]
    #: None = no simulator is started.
    simulator: SimulatorSettings | None

    def document(self, heading: str) -> str:
        """Return this configuration as TOML."""
        tables: dict[str, Any] = {"edge": toml.changed(self.edge), "control": toml.changed(self.control)}
        if self.simulator is not None:
            # Its port is never left to a default: the struct's and the file's are not the same.
            tables["simulator"] = {"port": self.simulator.port, **toml.changed(self.simulator)}
        tables["backends"] = [toml.changed(backend) for backend in self.backends]
        return toml.document(heading, tables)

    def on(self, base: int) -> Configuration:
        """Return this configuration with every port counted from `base`; 0 = free ports everywhere."""
        simulator = self.simulator
        return replace(
            self,
            edge=_moved(self.edge, base),
            control=_moved(self.control, base),
            simulator=simulator and msgspec.structs.replace(simulator, port=base and base + SIMULATOR_OFFSET),
        )

    def with_edge_port(self, port: int) -> Configuration:
        """Return this configuration with the edge on `port`."""
        return replace(self, edge=msgspec.structs.replace(self.edge, port=port))


class Named(NamedTuple):
    """A port and the key that sets it."""

    key: str
    port: int


def section(path: str | os.PathLike[str] | None, name: str) -> Any:
    """Return one service's settings: its table in the file at `path`, or its defaults.

    Raises:
        SettingsError: the file or that table cannot be used.
    """
    return _section(_tables(path), str(path), name)


def backends(path: str | os.PathLike[str] | None) -> tuple[Backend, ...]:
    """Return the `[[backends]]` of the file at `path`.

    Raises:
        SettingsError: the file or one of the backends cannot be used.
    """
    return _backends(_tables(path), str(path))


def load(path: str | os.PathLike[str]) -> Configuration:
    """Return what the file at `path` asks for, after every check that needs no running service.

    Raises:
        SettingsError: in one line, what is wrong and where.
    """
    tables, where = _tables(path), str(path)
    found = Configuration(
        _section(tables, where, "edge"),
        _section(tables, where, "control"),
        _backends(tables, where),
        _section(tables, where, "simulator") if "simulator" in tables else None,
    )
    _check(found, where)
    return found


def of_machine(found: tuple[Backend, ...]) -> Configuration:
    """Return what runs without a file: defaults, the engines that were found, or else the simulator."""
    simulator = None if found else _section({}, "", "simulator")
    return Configuration(_section({}, "", "edge"), _section({}, "", "control"), found, simulator)


def notes(found: Configuration) -> list[str]:
    """Return what is allowed but should be seen: one line each."""
    return [
        f"backend {backend.name}: the environment here has no {backend.api_key_env}; control would not start"
        for backend in found.backends
        if backend.api_key_env and not os.environ.get(backend.api_key_env)
    ]


def ports(found: Configuration) -> Iterator[Named]:
    """Yield every port that this configuration listens on, 0 included."""
    yield Named("edge.port", found.edge.port)
    yield Named("edge.ops_port", found.edge.ops_port)
    yield Named("control.port", found.control.port)
    yield Named("control.ops_port", found.control.ops_port)
    if found.simulator is not None:
        yield Named("simulator.port", found.simulator.port)


def _tables(path: str | os.PathLike[str] | None) -> dict[str, Any]:
    tables = {} if path is None else settings.read(path)
    for name in tables:
        if name not in _TABLES:
            raise SettingsError(f"{path}: {name}: unknown table{settings.nearest(name, _TABLES)}")
    return tables


def _section(tables: dict[str, Any], where: str, name: str) -> Any:
    module, kind = _SECTIONS[name]
    type_ = getattr(importlib.import_module(module), kind)
    found = settings.convert(tables.get(name, {}), type_, where, key=name)
    if name == "simulator" and "port" not in tables.get(name, {}):
        return msgspec.structs.replace(found, port=PORT_BASE + SIMULATOR_OFFSET)
    return found


def _backends(tables: dict[str, Any], where: str) -> tuple[Backend, ...]:
    found = settings.convert(tables.get("backends", []), tuple[Backend, ...], where, key="backends")
    names: dict[str, int] = {}
    urls: dict[str, str] = {}
    for index, backend in enumerate(found):
        key = f"{where}: backends[{index}]"
        if backend.name in names:
            raise SettingsError(f'{key}.name: "{backend.name}" is backends[{names[backend.name]}] already')
        url = backend.url.rstrip("/")
        if problem := _unanswerable(url):
            raise SettingsError(f'{key}.url: {problem}, got "{backend.url}"')
        if url in urls:
            raise SettingsError(f'{key}.url: "{backend.url}" is the address of "{urls[url]}" already')
        names[backend.name], urls[url] = index, backend.name
    return found


def _unanswerable(url: str) -> str | None:
    """Return why nobody could answer at `url`, or None."""
    parts = urlsplit(url)
    if parts.username is not None or parts.password is not None:
        return "expected no credentials here (name them with api_key_env)"
    try:
        number = parts.port
    except ValueError:
        return "expected a port from 1 to 65535"
    if number == 0:
        return "expected a port from 1 to 65535"
    if not parts.hostname:
        return "expected a host name or address"
    if parts.hostname in ("0.0.0.0", "::"):  # noqa: S104  refused
        return "expected an address to connect to (127.0.0.1 for this machine)"
    if parts.path.rstrip("/").endswith("/v1"):
        return "expected the base address, without /v1"
    return None


def _check(found: Configuration, where: str) -> None:
    if not found.backends and found.simulator is None:
        raise SettingsError(f"{where}: nothing to stream from: add a [[backends]] table, or [simulator]")
    simulator = found.simulator
    if simulator is not None and simulator.name in {backend.name for backend in found.backends}:
        raise SettingsError(f'{where}: simulator.name: "{simulator.name}" is a backend\'s name already')
    if simulator is not None and simulator.api_key is not None:
        raise SettingsError(
            f"{where}: simulator.api_key: expected none beside an edge; with a key, run headrace simulate by itself"
            " and name it in [[backends]] with api_key_env"
        )
    if found.edge.route_timeout_ms >= found.edge.commit_after_ms:
        raise SettingsError(
            f"{where}: edge.route_timeout_ms: expected less than edge.commit_after_ms"
            f" ({found.edge.commit_after_ms}), got {found.edge.route_timeout_ms};"
            " otherwise a refusal could no longer be a status code"
        )
    taken: dict[int, str] = {}
    for key, number in ports(found):
        if number in taken:
            raise SettingsError(f"{where}: {key}: {number} is {taken[number]} already")
        if number:
            taken[number] = key


def _moved(found: Any, base: int) -> Any:
    defaults = {field.name: field.default for field in msgspec.structs.fields(found)}
    moved = {name: base and base + defaults[name] - PORT_BASE for name in ("port", "ops_port")}
    return msgspec.structs.replace(found, **moved)
