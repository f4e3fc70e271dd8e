"""`headrace check FILE`: what would run, or the one line that says why not."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

from launch import config
from launch.budgets import check_budgets
from launch.doctor.roles import named
from launch.media import contained, doubts
from launch.screen import Row, Screen
from streamkit.wire.address import place
from streamkit.wire.backend import Backend

if TYPE_CHECKING:
    from edge.settings import EdgeSettings

__all__ = ["check"]

_GRPC: Final = ("arbiter", "inference", "compositor")
#: Tables that a service reads besides its own.
_BESIDE: Final = {"observe": ("prober", "healing"), "compositor": ("speech",)}
_DETAILS: Final = {"arbiter": "GPU leases", "inference": "avatars' mouths", "observe": "events, usage"}


def check(options: argparse.Namespace) -> int:
    """Validate the file and show what it would start.

    Raises:
        SettingsError: the file cannot be used.
    """
    if options.service:
        return _check_services(options)
    found = config.load(options.file)
    screen = Screen()
    screen.line(f"{options.file}: {screen.bold('valid')}; headrace up --config {options.file} would run")
    screen.line()
    names = ("edge", "control", "arbiter", "inference", "compositor", "observe")
    rows = [_row(name, settings) for name in names if (settings := getattr(found, name)) is not None]
    rows += _engines(found.backends)
    if found.simulator is not None:
        simulator = found.simulator
        url = _url(simulator.host, simulator.port)
        rows.append(Row(simulator.name, url, "simulated", ", ".join(simulator.models)))
    screen.table(rows)
    for alias in found.models.aliases:
        screen.line(f"  alias {alias.name}: {', then '.join(alias.models)}")
    for note in [*config.notes(found), *_media(found.edge)]:
        screen.line(f"  note  {note}")
    return 0


def _check_services(options: argparse.Namespace) -> int:
    """Judge a file of which only some tables are used on the machine that it is for."""
    roles = named(options.file, options.service)
    for name in (beside for service in options.service for beside in _BESIDE.get(service, ())):
        config.section(options.file, name)
    models = config.models(options.file)
    if budgets := config.budgets(options.file):
        check_budgets(budgets, config.section(options.file, "gpu"), options.file)
    if (edge := roles.settings.get("edge")) is not None:
        config.check_edge(edge, options.file)
    screen = Screen()
    shown = ", ".join(options.service)
    screen.line(f"{options.file}: {screen.bold('valid')} for {shown}")
    screen.line()
    screen.table([*(_row(name, settings) for name, settings in roles.settings.items()), *_engines(roles.backends)])
    for alias in models.aliases:
        screen.line(f"  alias {alias.name}: {', then '.join(alias.models)}")
    for note in _media(edge) if edge is not None else ():
        screen.line(f"  note  {note}")
    return 0


def _media(edge: EdgeSettings) -> Iterator[str]:
    for doubt in doubts(edge, inside=contained()):
        yield f"edge.webrtc: {doubt.seen}: {doubt.do}"


def _row(name: str, settings: Any) -> Row:
    url = _url(settings.host, settings.port)
    if name in _GRPC:
        url = url.replace("http", "grpc", 1)
    return Row(name, url, "simulated" if name == "simulator" else "real", _DETAILS.get(name, ""))


def _engines(backends: tuple[Backend, ...]) -> Iterator[Row]:
    for backend in backends:
        kind = "simulated" if backend.effective_capabilities().simulated else "real"
        yield Row(backend.name, backend.url, kind, ", ".join((backend.engine, *backend.models)))


def _url(host: str, port: int) -> str:
    url = f"http://{place(host, port)}"
    return url if port else f"{url.removesuffix(':0')} (a free port)"
