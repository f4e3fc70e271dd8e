"""One service in the foreground: `headrace edge`, `headrace control`, `headrace simulate`."""

from __future__ import annotations

import argparse
from typing import Any

import msgspec

from launch import config
from launch.leave import leave_with
from streamkit.ops import settings

__all__ = ["control", "edge", "simulate"]


def edge(options: argparse.Namespace) -> int:
    """Run the edge."""
    from edge.run import main  # noqa: PLC0415  a service loads only itself

    found = _with_options("edge", options, "host", "port", "ops_port", "control_url")
    return main(found, ready_file=options.ready_file)


def control(options: argparse.Namespace) -> int:
    """Run control."""
    from control.run import main  # noqa: PLC0415  a service loads only itself

    found = _with_options("control", options, "host", "port", "ops_port")
    return main(found, config.backends(options.config), ready_file=options.ready_file)


def simulate(options: argparse.Namespace) -> int:
    """Run the simulator."""
    from simulator.run import main  # noqa: PLC0415  a service loads only itself

    found = _with_options("simulator", options, "host", "port", "name", "fault")
    return main(found, ready_file=options.ready_file)


def _with_options(name: str, options: argparse.Namespace, *keys: str) -> Any:
    """Return the service's settings with what the command line overrides, checked like the file's."""
    leave_with(options.leave_with)
    found = config.section(options.config, name)
    given = {key: value for key in keys if (value := getattr(options, key)) is not None}
    if not given:
        return found
    return settings.convert({**msgspec.to_builtins(found), **given}, type(found), "command line", key=name)
