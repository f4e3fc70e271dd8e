"""Running control as a process: settings in, exit status out."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from ipaddress import ip_address

from control.app import application
from control.metrics import watch
from control.service import Control
from control.settings import ControlSettings
from streamkit.ops import log
from streamkit.ops.events import EventFeed
from streamkit.ops.health import ops_app
from streamkit.ops.http_client import HttpClient
from streamkit.ops.lifecycle import Lifecycle
from streamkit.ops.metrics import Metrics
from streamkit.ops.server import Listener, run, serve
from streamkit.ops.settings import SettingsError
from streamkit.wire.backend import Backend

__all__ = ["api_keys", "main"]

_EXIT_SETTINGS = 2


def main(settings: ControlSettings, backends: tuple[Backend, ...], *, ready_file: str | None = None) -> int:
    """Run control until a signal ends it, and return the exit status.

    0 = stopped as asked; 1 = the application did not start; 2 = the settings or the address cannot be used.

    Args:
        settings: control's own.
        backends: as configured.
        ready_file: written once control answers, removed at the end.
    """
    try:
        _check_names(backends)
        keys = api_keys(backends, os.environ)
        _check_host(settings.host)
    except SettingsError as error:
        print(f"control: {error}", file=sys.stderr)  # noqa: T201  it must be seen under any log level
        return _EXIT_SETTINGS
    log.configure("control")
    return run(lambda: _serve(settings, backends, keys, ready_file))


def api_keys(backends: tuple[Backend, ...], environment: Mapping[str, str]) -> dict[str, str]:
    """Return the engines' bearer tokens by backend name, from the variables that the backends name.

    Raises:
        SettingsError: a variable is not set, or empty.
    """
    keys: dict[str, str] = {}
    for backend in backends:
        if not backend.api_key_env:
            continue
        key = environment.get(backend.api_key_env, "")
        if not key:
            raise SettingsError(f"backend {backend.name}: the environment has no {backend.api_key_env} (api_key_env)")
        keys[backend.name] = key
    return keys


def _check_names(backends: tuple[Backend, ...]) -> None:
    seen: set[str] = set()
    for backend in backends:
        if backend.name in seen:
            raise SettingsError(f"backend {backend.name}: two backends have this name")
        seen.add(backend.name)


def _check_host(host: str) -> None:
    """Refuse an address that others reach: control asks nobody for a key yet, and tells those of the engines (§9)."""
    try:
        loopback = ip_address(host).is_loopback
    except ValueError:
        loopback = host == "localhost"
    if not loopback:
        raise SettingsError(f"host: control has no keys, so it listens on loopback only, not on {host}")


async def _serve(
    settings: ControlSettings, backends: tuple[Backend, ...], keys: dict[str, str], ready_file: str | None
) -> int:
    lifecycle = Lifecycle(settle_ms=settings.settle_ms, drain_ms=settings.drain_ms)
    feed = EventFeed()
    async with HttpClient(max_connections=max(16, 2 * len(backends))) as client:
        control = Control(settings, backends, client=client, api_keys=keys, on_event=feed.publish)
        metrics = Metrics()
        watch(metrics, control)
        # Waiting edges get their answer at once, and connections end by themselves.
        lifecycle.on_drain.append(control.board.close)
        return await serve(
            name="control",
            kind="control",
            public=Listener(app=application(control), host=settings.host, port=settings.port),
            ops=Listener(
                app=ops_app(lifecycle, metrics=metrics.exposition, feed=feed),
                host=settings.host,
                port=settings.ops_port,
            ),
            lifecycle=lifecycle,
            ready_file=ready_file,
        )
