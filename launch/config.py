"""One file for all services, read and refused in one place."""

from __future__ import annotations

import importlib
import importlib.util
import os
from typing import TYPE_CHECKING, Any, Final

import msgspec

from launch import broker as nats
from launch.avatar import avatars_of, missing_extras, voiceless
from launch.backends import backends_of
from launch.budgets import budgets_of, check_budgets
from launch.configuration import Configuration
from launch.media import check_media
from launch.models import models_of
from launch.ports import (
    ARBITER_OFFSET,
    COMPOSITOR_OFFSET,
    INFERENCE_OFFSET,
    PORT_BASE,
    SIMULATOR_OFFSET,
    check_ports,
)
from streamkit.ops import settings
from streamkit.ops.settings import SettingsError
from streamkit.wire.backend import Backend
from streamkit.wire.models import Models

if TYPE_CHECKING:
    from compositor.settings import AvatarSettings
    from core_gpu.modes.settings import Budget
    from edge.settings import EdgeSettings
    from simulator.settings import SimulatorSettings

__all__ = [
    "SECTIONS",
    "SERVICES",
    "avatars",
    "backends",
    "budgets",
    "check_edge",
    "load",
    "models",
    "notes",
    "of_machine",
    "section",
]

#: Settings by the name of their table. Imported only by who needs them: an edge process loads nothing of control's.
SECTIONS: Final = {
    "edge": ("edge.settings", "EdgeSettings"),
    "control": ("control.settings", "ControlSettings"),
    "arbiter": ("core_gpu.arbiter.settings", "ArbiterSettings"),
    "inference": ("core_gpu.inference.settings", "InferenceSettings"),
    "compositor": ("compositor.settings", "CompositorSettings"),
    "speech": ("compositor.speech.settings", "SpeechSettings"),
    "gpu": ("core_gpu.modes.settings", "GpuSettings"),
    "nats": ("launch.broker", "NatsSettings"),
    "observe": ("observe.settings", "ObserveSettings"),
    "prober": ("observe.settings", "ProberSettings"),
    "healing": ("observe.settings", "HealingSettings"),
    "simulator": ("simulator.settings", "SimulatorSettings"),
}
#: The tables that are services, in the order in which a person would look at them.
SERVICES: Final = tuple(name for name in SECTIONS if name not in ("gpu", "speech", "prober", "healing"))
_TABLES: Final = (*SECTIONS, "avatars", "backends", "budgets", "aliases", "equivalents", "models")


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
    return backends_of(_tables(path), str(path))


def avatars(path: str | os.PathLike[str] | None) -> tuple[AvatarSettings, ...]:
    """Return the `[[avatars]]` of the file at `path`, or the drawn one where it has none.

    Raises:
        SettingsError: the file or one of the avatars cannot be used.
    """
    return avatars_of(_tables(path), str(path))


def budgets(path: str | os.PathLike[str] | None) -> tuple[Budget, ...]:
    """Return the `[[budgets]]` of the file at `path`.

    Raises:
        SettingsError: the file or one of the budgets cannot be used.
    """
    return budgets_of(_tables(path), str(path))


def models(path: str | os.PathLike[str] | None) -> Models:
    """Return the `[[aliases]]` and `[[models]]` of the file at `path`.

    Raises:
        SettingsError: the file or one of them cannot be used.
    """
    return models_of(_tables(path), str(path))


def load(path: str | os.PathLike[str]) -> Configuration:
    """Return what the file at `path` asks for, after every check that needs no running service.

    Raises:
        SettingsError: in one line, what is wrong and where.
    """
    tables, where = _tables(path), str(path)
    simulator = _section(tables, where, "simulator") if "simulator" in tables else None
    found = Configuration(
        _section(tables, where, "edge"),
        _section(tables, where, "control"),
        tuple(backend for backend in backends_of(tables, where) if not _stands_for(backend, simulator)),
        simulator,
        _grpc(tables, where, "arbiter", ARBITER_OFFSET) if "arbiter" in tables else None,
        models_of(tables, where),
        budgets=budgets_of(tables, where),
        gpu=_section(tables, where, "gpu") if "gpu" in tables else None,
        nats=_section(tables, where, "nats") if "nats" in tables else None,
        observe=_section(tables, where, "observe") if "observe" in tables else None,
        prober=_section(tables, where, "prober") if "prober" in tables else None,
        healing=_section(tables, where, "healing") if "healing" in tables else None,
        inference=_grpc(tables, where, "inference", INFERENCE_OFFSET) if "inference" in tables else None,
        speech=_section(tables, where, "speech") if "speech" in tables else None,
        compositor=_grpc(tables, where, "compositor", COMPOSITOR_OFFSET) if "compositor" in tables else None,
        avatars=avatars_of(tables, where) if tables.keys() & {"compositor", "avatars"} else (),
    )
    if found.budgets:
        check_budgets(found.budgets, found.gpu or _section(tables, where, "gpu"), where)
    _check(found, where)
    return found


def of_machine(found: tuple[Backend, ...]) -> Configuration:
    """Return what runs without a file: defaults, the engines that were found, or else the simulator."""
    simulator = None if found else _section({}, "", "simulator")
    # Without its packages a machine still streams; `notes` says what is missing.
    arbiter = _grpc({}, "", "arbiter", ARBITER_OFFSET) if importlib.util.find_spec("grpc") else None
    inference = compositor = None
    if not missing_extras():
        inference = _grpc({}, "", "inference", INFERENCE_OFFSET)
        compositor = _grpc({}, "", "compositor", COMPOSITOR_OFFSET)
    broker = _section({}, "", "nats")
    if arbiter is None or nats.found(broker.program) is None:
        broker = None
    return Configuration(
        _section({}, "", "edge"), _section({}, "", "control"), found, simulator, arbiter, nats=broker,
        inference=inference, observe=_section({}, "", "observe") if broker is not None else None,
        compositor=compositor, avatars=avatars_of({}, "") if compositor is not None else (),
    )  # fmt: skip


def notes(found: Configuration) -> list[str]:
    """Return what is allowed but should be seen: one line each."""
    missing = []
    if found.arbiter is None and importlib.util.find_spec("grpc") is None:
        missing = ["no arbiter: the package grpcio is missing, pip install 'headrace[arbiter]'"]
    elif found.arbiter is not None and found.nats is None and not found.arbiter.nats_url:
        missing = ["the arbiter's pressure reaches nobody: add a [nats] table (pip install 'headrace[broker]')"]
    return (
        missing
        + [
            f"backend {backend.name}: the environment here has no {backend.api_key_env}; control would not start"
            for backend in found.backends
            if backend.api_key_env and not os.environ.get(backend.api_key_env)
        ]
        + voiceless(found)
    )


def _tables(path: str | os.PathLike[str] | None) -> dict[str, Any]:
    tables = {} if path is None else settings.read(path)
    for name in tables:
        if name not in _TABLES:
            raise SettingsError(f"{path}: {name}: unknown table{settings.nearest(name, _TABLES)}")
    return tables


def _section(tables: dict[str, Any], where: str, name: str) -> Any:
    module, kind = SECTIONS[name]
    type_ = getattr(importlib.import_module(module), kind)
    found = settings.convert(tables.get(name, {}), type_, where, key=name)
    if name == "simulator" and "port" not in tables.get(name, {}):
        return msgspec.structs.replace(found, port=PORT_BASE + SIMULATOR_OFFSET)
    return found


def _grpc(tables: dict[str, Any], where: str, name: str, offset: int) -> Any:
    """Return a gRPC service's settings as one of several services, whose ports are counted from one base."""
    found = _section(tables, where, name)
    if "port" in tables.get(name, {}):
        return found
    return msgspec.structs.replace(found, port=PORT_BASE + offset)


def _stands_for(backend: Backend, simulator: SimulatorSettings | None) -> bool:
    """Return whether a backend is the simulator itself: a file that `headrace up` has written names it so."""
    return simulator is not None and backend.simulated and backend.name == simulator.name


def check_edge(edge: EdgeSettings, where: str) -> None:
    """Return if the edge's settings fit together.

    Raises:
        SettingsError: which do not, and why.
    """
    if edge.route_timeout_ms >= edge.commit_after_ms:
        raise SettingsError(
            f"{where}: edge.route_timeout_ms: expected less than edge.commit_after_ms"
            f" ({edge.commit_after_ms}), got {edge.route_timeout_ms};"
            " otherwise a refusal could no longer be a status code"
        )
    if edge.queue_ms >= edge.commit_after_ms:
        raise SettingsError(
            f"{where}: edge.queue_ms: expected less than edge.commit_after_ms"
            f" ({edge.commit_after_ms}), got {edge.queue_ms};"
            " otherwise a request that waited in vain could no longer be answered 429"
        )
    check_media(edge, where)


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
    check_edge(found.edge, where)
    check_ports(found, where)
