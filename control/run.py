"""Running control as a process: settings in, exit status out."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import sys
from collections.abc import AsyncIterator, Callable, Mapping

import msgspec

from control.app import application
from control.keyring import Keyring
from control.metrics import watch, watch_link
from control.service import Control
from control.settings import ControlSettings
from control.store import MEMORY, Store, StoreError
from streamkit.ops import log
from streamkit.ops.events import EventFeed
from streamkit.ops.exposure import is_loopback, secret_from
from streamkit.ops.health import ops_app
from streamkit.ops.http_client import HttpClient
from streamkit.ops.lifecycle import Lifecycle
from streamkit.ops.metrics import Metrics
from streamkit.ops.nats_link import NatsLink
from streamkit.ops.server import Listener, run, serve
from streamkit.ops.settings import SettingsError
from streamkit.ops.tls import ServerTls
from streamkit.wire.backend import Backend
from streamkit.wire.models import Models
from streamkit.wire.state import ARBITERS, ailing_subject, want_subject
from streamkit.wire.telemetry import spent_subject

__all__ = ["api_keys", "main"]

_EXIT_SETTINGS = 2
_log = logging.getLogger(__name__)


def main(
    settings: ControlSettings,
    backends: tuple[Backend, ...],
    *,
    models: Models = Models(),  # noqa: B008 - frozen
    ready_file: str | None = None,
    reread: Callable[[], tuple[tuple[Backend, ...], Models]] | None = None,
) -> int:
    """Run control until a signal ends it, and return the exit status.

    0 = stopped as asked; 1 = the application did not start; 2 = the settings or the address cannot be used.

    Args:
        settings: control's own.
        backends: as configured.
        models: aliases and policies, as configured.
        ready_file: written once control answers, removed at the end.
        reread: returns backends and models as they are configured by now, for SIGHUP; may raise `SettingsError`.
    """
    try:
        keys = api_keys(backends, os.environ)
        files = settings.tls_files()
        tls = ServerTls(files) if files.named else None
        secret = secret_from(settings.edge_secret_env, "control.edge_secret_env")
        _check_host(settings.host, secret)
        store = Store(settings.store_path or MEMORY, create=True)
    except (SettingsError, StoreError) as error:
        print(f"control: {error}", file=sys.stderr)  # noqa: T201  it must be seen under any log level
        return _EXIT_SETTINGS
    log.configure("control")
    with store:
        return run(lambda: _serve(settings, backends, models, keys, secret, store, tls, ready_file, reread))


def api_keys(backends: tuple[Backend, ...], environment: Mapping[str, str]) -> dict[str, str]:
    """Return the engines' bearer tokens by backend name, from the variables that the backends name.

    Raises:
        SettingsError: a variable is not set, or empty; or two backends have one name.
    """
    _check_names(backends)
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


def _check_host(host: str, secret: str) -> None:
    """Refuse an address that others reach while nobody is asked who he is: answers tell the engines' keys (§9)."""
    if not secret and not is_loopback(host):
        raise SettingsError(
            f"host: control listens beyond this machine ({host}) only where edges show a secret, because its answers"
            " carry the engines' keys; name its variable in control.edge_secret_env, and in edge.control_secret_env"
        )


@contextlib.asynccontextmanager
async def _watched(tls: ServerTls) -> AsyncIterator[None]:
    watching = asyncio.create_task(tls.watch(), name="watch the certificate")
    try:
        yield
    finally:
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)


async def _serve(
    settings: ControlSettings,
    backends: tuple[Backend, ...],
    models: Models,
    keys: dict[str, str],
    secret: str,
    store: Store,
    tls: ServerTls | None,
    ready_file: str | None,
    reread: Callable[[], tuple[tuple[Backend, ...], Models]] | None,
) -> int:
    lifecycle = Lifecycle(settle_ms=settings.settle_ms, drain_ms=settings.drain_ms)
    feed = EventFeed()
    async with contextlib.AsyncExitStack() as stack:
        client = await stack.enter_async_context(HttpClient(max_connections=max(16, 2 * len(backends))))
        try:
            keyring = Keyring(store, required=settings.require_keys, poll_ms=settings.store_poll_ms)
        except StoreError as error:
            print(f"control: {error}", file=sys.stderr)  # noqa: T201
            return _EXIT_SETTINGS
        control = Control(
            settings,
            backends,
            client=client,
            api_keys=keys,
            models=models,
            keyring=keyring,
            on_event=feed.publish,
        )

        def reload() -> None:
            try:
                found, named = reread() if reread is not None else (backends, models)
                control.reload(found, api_keys(found, os.environ), named)
            except SettingsError as error:
                log.event(_log, "reload.refused", level=logging.ERROR, reason=str(error))

        metrics = Metrics()
        watch(metrics, control)
        if settings.nats_url:
            link = NatsLink(settings.nats_url, name="headrace control")
            link.read(ARBITERS, control.hear)
            link.read(spent_subject(), control.hear_spent)
            watch_link(metrics, link)
            control.on_want = lambda host, want: link.post(want_subject(host), msgspec.json.encode(want))
            control.on_ailing = lambda host, ailing: link.post(ailing_subject(host), msgspec.json.encode(ailing))
            await stack.enter_async_context(link)
        if tls is not None:
            await stack.enter_async_context(_watched(tls))
        # Waiting edges get their answer at once, and connections end by themselves.
        lifecycle.on_drain.append(control.board.close)
        return await serve(
            name="control",
            kind="control",
            public=Listener(
                app=application(control, secret=secret),
                host=settings.host,
                port=settings.port,
                tls=tls.context if tls is not None else None,
            ),
            ops=Listener(
                app=ops_app(lifecycle, metrics=metrics.exposition, feed=feed),
                host=settings.ops_host,
                port=settings.ops_port,
            ),
            lifecycle=lifecycle,
            ready_file=ready_file,
            on_reload=reload,
        )
