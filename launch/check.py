"""`headrace check FILE`: what would run, or the one line that says why not."""

from __future__ import annotations

import argparse

from launch import config
from launch.screen import Row, Screen

__all__ = ["check"]


def check(options: argparse.Namespace) -> int:
    """Validate the file and show what it would start.

    Raises:
        SettingsError: the file cannot be used.
    """
    found = config.load(options.file)
    screen = Screen()
    screen.line(f"{options.file}: {screen.bold('valid')}; headrace up --config {options.file} would run")
    screen.line()
    rows = [
        Row("edge", _url(found.edge.host, found.edge.port), "real"),
        Row("control", _url(found.control.host, found.control.port), "real"),
    ]
    for backend in found.backends:
        kind = "simulated" if backend.effective_capabilities().simulated else "real"
        rows.append(Row(backend.name, backend.url, kind, ", ".join((backend.engine, *backend.models))))
    if found.simulator is not None:
        simulator = found.simulator
        url = _url(simulator.host, simulator.port)
        rows.append(Row(simulator.name, url, "simulated", ", ".join(simulator.models)))
    screen.table(rows)
    for note in config.notes(found):
        screen.line(f"  note  {note}")
    return 0


def _url(host: str, port: int) -> str:
    place = f"[{host}]" if ":" in host else host
    return f"http://{place}:{port}" if port else f"http://{place} (a free port)"
