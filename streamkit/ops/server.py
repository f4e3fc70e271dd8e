"""Our own small server around uvicorn's: it binds the sockets, owns the signals and drains in a fixed order.

    readiness off → settle → stop accepting → finish → deadline → cut

uvicorn is pinned exactly; what is overridden here are its public methods `capture_signals`, `startup`, `main_loop`
and `shutdown`.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import logging
import os
import signal
import socket
import sys
import tempfile
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar

import uvicorn

from streamkit.ops import log
from streamkit.ops.front import Front
from streamkit.ops.lifecycle import Lifecycle
from streamkit.ops.listener import BindError, Listener, bound, shown_url
from streamkit.ops.signals import handled
from streamkit.ops.tls import accepting
from streamkit.ops.waits import deadline, either

__all__ = ["BindError", "Listener", "run", "serve", "write_ready_file"]

T = TypeVar("T")
_log = logging.getLogger(__name__)

EXIT_OK: Final = 0
EXIT_FAILED: Final = 1
EXIT_ADDRESS: Final = 2
_DATE_REFRESH_MS: Final = 1_000
#: The ops port has no work of its own: scrapes under way finish.
_OPS_DRAIN_MS: Final = 250
#: For an application's own clean-up, and for cut tasks to see their cancellation.
_LIFESPAN_MS: Final = 5_000
_FINISH_POLL_S: Final = 0.02
#: Objects that live as long as the process are frozen after start; young ones die by reference count.
_GC_THRESHOLD: Final = (50_000, 20, 50)


def run(main: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run `main()` to its end on uvloop, or on asyncio's own loop where uvloop is not installed."""
    try:
        from uvloop import new_event_loop  # noqa: PLC0415  optional
    except ImportError:
        with asyncio.Runner() as runner:
            return runner.run(main())
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        return runner.run(main())


async def serve(
    *,
    name: str,
    kind: str,
    public: Listener | Front,
    ops: Listener | None = None,
    inner: Sequence[Listener] = (),
    lifecycle: Lifecycle,
    ready_file: str | os.PathLike[str] | None = None,
    ready_extra: Mapping[str, object] | None = None,
    on_reload: Callable[[], None] | None = None,
) -> int:
    """Serve until a signal ends the process, and return its exit status.

    0 = stopped as asked; 1 = the application did not start; 2 = an address is taken (told in one line).

    Args:
        name: this process among others: `edge`, `control`.
        kind: what it is: `edge`, `control`, `simulator`.
        public: what clients reach; an application's lifespan runs the service.
        ops: health, metrics and events; up before `public` and until after its drain.
        inner: for parts of the same system; up before `public` and until after its drain.
        lifecycle: turned `ready` here, and drained by SIGTERM or SIGINT; a second signal cuts what still runs.
        ready_file: written once both addresses answer, removed at the end.
        ready_extra: further members of the ready file.
        on_reload: called at SIGHUP; None = it is told in the log that this process has nothing to reload.
    """
    with contextlib.ExitStack() as addresses:
        try:
            front: Front
            if isinstance(public, Listener):
                front = _Server(public, addresses.enter_context(bound(public)), lifecycle, lifecycle.drain_ms)
            else:
                front = public
                front.bind()
            others = (*((ops,) if ops is not None else ()), *inner)
            sockets = [addresses.enter_context(bound(other)) for other in others]
            behind = [_Server(*pair, lifecycle, _OPS_DRAIN_MS) for pair in zip(others, sockets, strict=True)]
        except BindError as error:
            print(f"{name}: {error}", file=sys.stderr)  # noqa: T201  it must be seen under any log level
            return EXIT_ADDRESS
        ops_url = behind[0].url if ops is not None else None
        members = {"name": name, "url": front.url, "ops_url": ops_url, "pid": os.getpid(), "kind": kind}
        interrupt, reload = lifecycle.interrupt, on_reload or _nothing_to_reload
        handlers = {signal.SIGTERM: interrupt, signal.SIGINT: interrupt, signal.SIGHUP: reload}
        addresses.enter_context(handled(handlers))
        try:
            if not all([await one.start() for one in (*behind, front)]):
                return EXIT_OK if lifecycle.draining else EXIT_FAILED
            lifecycle.started()
            _settle_memory()
            if ready_file is not None:
                write_ready_file(ready_file, {**members, **(ready_extra or {})})
            log.event(_log, "serve.ready", name=name, url=front.url, ops_url=ops_url)
            await either(lifecycle.drain_begun(), front.ended())
            lifecycle.begin_drain()
            log.event(_log, "serve.drain", settle_ms=lifecycle.settle_ms, drain_ms=lifecycle.drain_ms)
            async with deadline(lifecycle.settle_ms):
                await lifecycle.force_begun()
        finally:
            lifecycle.begin_drain()
            # The ops port answers until the work is done.
            await front.stop(lifecycle.idle)
            lifecycle.finished()
            for one in reversed(behind):
                await one.stop()
            if ready_file is not None:
                _remove(ready_file)
            lifecycle.stopped()
    return EXIT_OK


def write_ready_file(path: str | os.PathLike[str], members: Mapping[str, object]) -> None:
    """Write `members` as JSON so that a reader sees the whole file or none."""
    target = Path(path)
    handle, temporary = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        json.dump(members, file)
    Path(temporary).replace(target)


def _remove(path: str | os.PathLike[str]) -> None:
    Path(path).unlink(missing_ok=True)


async def _no_work() -> None:
    return


class _Server(uvicorn.Server):
    """One listener's uvicorn: no signals, no polling, and a shutdown with our deadline."""

    def __init__(self, listener: Listener, sockets: list[socket.socket], lifecycle: Lifecycle, drain_ms: int) -> None:
        context = self._tls = listener.tls
        config = uvicorn.Config(
            listener.app,
            http=listener.http,
            ws="none",
            interface="asgi3",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            ssl_context_factory=None if context is None else lambda *_: context,
        )
        # uvicorn hands it to call_later, which takes fractions of a second.
        config.timeout_keep_alive = listener.keep_alive_ms / 1000  # type: ignore[assignment]
        super().__init__(config)
        self.url = shown_url(listener, sockets[0])
        if listener.on_bound is not None:
            listener.on_bound(self.url)
        self._listening = sockets
        self._lifecycle = lifecycle
        self._drain_ms = drain_ms
        self._idle: Callable[[], Awaitable[None]] = _no_work
        self._begun = asyncio.Event()
        self._leave = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def bind(self) -> None:
        """Do nothing: the sockets were bound before."""

    async def start(self) -> bool:
        """Return whether the application started and the sockets accept; a signal gives up waiting."""
        self._task = asyncio.create_task(self.serve(self._listening), name=f"serve {self.url}")
        await either(self._begun.wait(), self.ended(), self._lifecycle.drain_begun())
        return self.started

    async def ended(self) -> None:
        """Return when the server ended by itself, or raise what ended it."""
        if self._task is not None:
            await asyncio.shield(self._task)

    async def stop(self, idle: Callable[[], Awaitable[None]] = _no_work) -> None:
        """Stop accepting, let the work finish until the deadline, cut the rest.

        Args:
            idle: returns when the work that no connection shows has finished, too.
        """
        if self._task is None:
            return
        self._idle = idle
        self.should_exit = True
        self._leave.set()
        if not self.started:
            self._task.cancel()
        await asyncio.wait({self._task})
        if not self._task.cancelled() and (error := self._task.exception()) is not None:
            _log.error("serve.failed", exc_info=error)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the signals to `serve`."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start the application; a failure is a result, not the end of the event loop."""
        try:
            if self._tls is None or sockets is None:
                await super().startup(sockets)
            else:
                await super().startup([])
                self.servers = await accepting(self._tls, sockets, self)
        except SystemExit:
            self.should_exit = True
        self._begun.set()

    async def main_loop(self) -> None:
        """Refresh the date header once a second, and end at once when told to."""
        while not await self.on_tick(0):
            async with deadline(_DATE_REFRESH_MS):
                await self._leave.wait()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop accepting, finish until the deadline, cut, then end the application."""
        for server in self.servers:
            server.close()
        for sock in sockets or ():
            sock.close()
        # Idle keep-alive connections close now, busy ones after their answer.
        for connection in list(self.server_state.connections):
            connection.shutdown()
        async with deadline(self._drain_ms):
            await either(self._finished(), self._lifecycle.force_begun())
        await self._cut()
        async with deadline(_LIFESPAN_MS):
            await self.lifespan.shutdown()

    async def _finished(self) -> None:
        await self._idle()
        state = self.server_state
        while state.connections or state.tasks:  # noqa: ASYNC110  uvicorn's sets announce nothing
            await asyncio.sleep(_FINISH_POLL_S)

    async def _cut(self) -> None:
        connections, tasks = list(self.server_state.connections), set(self.server_state.tasks)
        for connection in connections:
            connection.transport.abort()
        for task in tasks:
            task.cancel()
        if connections or tasks:
            log.event(_log, "serve.cut", level=logging.WARNING, connections=len(connections), tasks=len(tasks))
        if tasks:
            await asyncio.wait(tasks, timeout=_LIFESPAN_MS / 1000)


def _settle_memory() -> None:
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_GC_THRESHOLD)


def _nothing_to_reload() -> None:
    log.event(_log, "reload.refused", level=logging.WARNING, reason="this process takes new settings by a restart")
