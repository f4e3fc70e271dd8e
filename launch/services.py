"""One service in the foreground: edge, control, arbiter, inference, compositor, observe, simulate."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec

from launch import config
from launch.folder import made_store
from launch.leave import leave_with
from launch.ports import PORT_BASE
from launch.workers import FleetPlan, supervise
from streamkit.ops import settings
from streamkit.ops.settings import SettingsError

if TYPE_CHECKING:
    from edge.settings import EdgeSettings

__all__ = ["arbiter", "compositor", "control", "edge", "inference", "missing_extra", "observe", "simulate"]

_OURS: Final = ("compositor", "core_gpu", "streamkit", "launch")


def edge(options: argparse.Namespace) -> int:
    """Run the edge: one process, or the supervisor of several, or one of those."""
    found = _edge_settings(options)
    if options.worker is None and found.workers:
        from edge.exposure import check_exposure  # noqa: PLC0415  a service loads only itself

        check_exposure(found)
        return supervise(_fleet(options, found))
    from edge.run import Place, main  # noqa: PLC0415

    place = None if options.worker is None else Place(options.worker, options.fds, options.ops_fds)
    return main(found, ready_file=options.ready_file, place=place)


def _edge_settings(options: argparse.Namespace) -> EdgeSettings:
    found: EdgeSettings = _with_options("edge", options, "host", "port", "ops_port", "control_url", "workers")
    config.check_edge(found, str(options.config or "command line"))
    return found


def _fleet(options: argparse.Namespace, found: EdgeSettings) -> FleetPlan:
    # Every worker reads the file for itself; what the command line overrides is handed on.
    given = {"--config": options.config, "--host": options.host, "--control-url": options.control_url}
    arguments = [word for option, value in given.items() if value is not None for word in (option, str(value))]
    return FleetPlan(
        arguments=("edge", *arguments),
        workers=found.workers,
        host=found.host,
        ops_host=found.ops_host,
        port=found.port,
        ops_port=found.ops_port,
        check=lambda: _edge_settings(options),
        ready_file=options.ready_file,
    )


def control(options: argparse.Namespace) -> int:
    """Run control."""
    from control.run import main  # noqa: PLC0415  a service loads only itself

    found = _with_options("control", options, "host", "port", "ops_port")
    if not found.store_path:
        found = msgspec.structs.replace(found, store_path=made_store(PORT_BASE))
    return main(
        found,
        config.backends(options.config),
        models=config.models(options.config),
        ready_file=options.ready_file,
        reread=lambda: (config.backends(options.config), config.models(options.config)),
    )


def arbiter(options: argparse.Namespace) -> int:
    """Run the arbiter.

    Raises:
        SettingsError: the packages that it needs are not installed.
    """
    try:
        from core_gpu.arbiter.run import main  # noqa: PLC0415  a service loads only itself
    except ModuleNotFoundError as error:
        raise missing_extra(error, "arbiter") from None

    found = _with_options("arbiter", options, "host", "port", "ops_port", "inventory", "state_dir")
    path = options.config
    return main(found, config.backends(path), config.budgets(path), ready_file=options.ready_file)


def inference(options: argparse.Namespace) -> int:
    """Run the inference server, on a headrace.toml or on the users' own config.yaml.

    Raises:
        SettingsError: the file cannot be used, or the packages that it needs are not installed.
    """
    try:
        from core_gpu.gpu_session import GpuSessionError, has_cuda  # noqa: PLC0415  a service loads only itself
        from core_gpu.inference.config_yaml import read_config  # noqa: PLC0415
        from core_gpu.inference.run import main  # noqa: PLC0415
    except ModuleNotFoundError as error:
        raise missing_extra(error, "inference") from None

    keys = ("host", "port", "ops_port")
    file = Path(options.config) if options.config is not None else None
    if file is None or file.suffix not in (".yaml", ".yml"):
        return main(_with_options("inference", options, *keys), ready_file=options.ready_file)
    leave_with(options.leave_with)
    try:
        read = read_config(file, has_cuda=has_cuda)
    except GpuSessionError as error:
        raise SettingsError(str(error)) from None
    found = _overridden("inference", read.settings, options, *keys)
    return main(found, ready_file=options.ready_file, source=file.name, warnings=read.warnings)


def compositor(options: argparse.Namespace) -> int:
    """Run the compositor.

    Raises:
        SettingsError: the file cannot be used, or the packages that it needs are not installed.
    """
    try:
        from compositor.run import main  # noqa: PLC0415  a service loads only itself
    except ModuleNotFoundError as error:
        raise missing_extra(error, "compositor") from None

    found = _with_options("compositor", options, "host", "port", "ops_port", "inference")
    path = options.config
    return main(found, config.avatars(path), config.section(path, "speech"), ready_file=options.ready_file)


def missing_extra(error: ModuleNotFoundError, extra: str) -> SettingsError:
    """Return what to install when a module is missing; a missing module of our own is raised again."""
    if error.name is None or error.name.split(".")[0] in _OURS:
        raise error
    return SettingsError(f"the package {error.name} is missing: pip install 'headrace[{extra}]'")


def observe(options: argparse.Namespace) -> int:
    """Run the observability centre."""
    from observe.run import main  # noqa: PLC0415  a service loads only itself

    found = _with_options("observe", options, "host", "port", "ops_port", "role", "site", "nats_url", "state_dir")
    if not found.state_dir:
        folder = Path(made_store(PORT_BASE)).parent / "observe"
        found = msgspec.structs.replace(found, state_dir=str(folder))
    path = options.config
    prober, healing = config.section(path, "prober"), config.section(path, "healing")
    return main(found, prober, healing, ready_file=options.ready_file)


def simulate(options: argparse.Namespace) -> int:
    """Run the simulator."""
    from simulator.run import main  # noqa: PLC0415  a service loads only itself

    found = _with_options("simulator", options, "host", "port", "name", "engine", "grpc_port", "fault")
    return main(found, ready_file=options.ready_file)


def _with_options(name: str, options: argparse.Namespace, *keys: str) -> Any:
    """Return the service's settings with what the command line overrides, checked like the file's."""
    leave_with(options.leave_with)
    return _overridden(name, config.section(options.config, name), options, *keys)


def _overridden(name: str, found: Any, options: argparse.Namespace, *keys: str) -> Any:
    given = {key: value for key in keys if (value := getattr(options, key)) is not None}
    if not given:
        return found
    return settings.convert({**msgspec.to_builtins(found), **given}, type(found), "command line", key=name)
