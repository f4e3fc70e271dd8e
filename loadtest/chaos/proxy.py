"""The chaos proxy: bytes both ways, a bounded queue each way, and toxics that may change at any moment.

    async with ChaosProxy("127.0.0.1", 8000) as proxy:
        proxy.set(Latency(ms=50), Reset(after_bytes=4096, direction=Direction.DOWN))
        ...                     # talk to proxy.url
        proxy.clear()           # connections that live go on unharmed
        proxy.cut()             # every connection is reset now

A connection's toxics are looked up for each read, so a change applies to connections that are open. `after_bytes`
counts the bytes of each connection and direction from its beginning.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from typing import Final, Self

from loadtest.chaos.pipe import Pipe
from loadtest.chaos.toxics import Direction, Refuse, Toxic
from streamkit.wire.address import place

__all__ = ["ChaosProxy"]

_RESET: Final = struct.pack("ii", 1, 0)
_BACKLOG: Final = 512


class ChaosProxy:
    """A TCP proxy on the loopback, or where it is told to listen; an async context manager.

    Args:
        host: where the server is.
        port: its port.
        listen_host: where clients connect.
        listen_port: 0 takes a free one.
        buffer_bytes: held for each connection and direction at most; then its sender is no longer read.
    """

    def __init__(
        self,
        host: str,
        port: int,
        *,
        listen_host: str = "127.0.0.1",
        listen_port: int = 0,
        buffer_bytes: int = 262_144,
    ) -> None:
        self._to = (host, port)
        self._listen = (listen_host, listen_port)
        self._buffer_bytes = buffer_bytes
        self._toxics: tuple[Toxic, ...] = ()
        self._links: set[_Link] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self.port = 0
        #: Connections taken so far.
        self.accepted = 0

    @property
    def url(self) -> str:
        """Where clients connect, as an HTTP base address."""
        return f"http://{place(self._listen[0], self.port)}"

    @property
    def toxics(self) -> tuple[Toxic, ...]:
        """What is wrong now."""
        return self._toxics

    @property
    def open(self) -> int:
        """Connections that live."""
        return len(self._links)

    @property
    def held_bytes(self) -> int:
        """Bytes on their way, over all connections."""
        return sum(link.held_bytes for link in self._links)

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._connected, *self._listen, backlog=_BACKLOG)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        self.cut()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def set(self, *toxics: Toxic) -> None:
        """Let exactly these be wrong from now on."""
        self._toxics = toxics
        for link in self._links:
            link.look()

    def clear(self) -> None:
        """Let nothing be wrong."""
        self.set()

    def cut(self) -> int:
        """Reset every connection that lives; return how many."""
        links = list(self._links)
        for link in links:
            link.reset()
        return len(links)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101  # asyncio runs this as a task.
        self._tasks.add(task)
        self.accepted += 1
        try:
            if any(isinstance(toxic, Refuse) for toxic in self._toxics):
                _abort(writer)
                return
            try:
                upper, lower = await asyncio.open_connection(*self._to)
            except OSError:
                _abort(writer)
                return
            link = _Link(self, (reader, writer), (upper, lower), self._buffer_bytes)
            self._links.add(link)
            try:
                await link.run()
            finally:
                self._links.discard(link)
        except asyncio.CancelledError:
            _abort(writer)  # The proxy ends.
        finally:
            self._tasks.discard(task)


class _Link:
    """One connection through the proxy: two pipes that end together or one after the other."""

    def __init__(
        self,
        proxy: ChaosProxy,
        client: tuple[asyncio.StreamReader, asyncio.StreamWriter],
        server: tuple[asyncio.StreamReader, asyncio.StreamWriter],
        buffer_bytes: int,
    ) -> None:
        self._writers = (client[1], server[1])
        for writer in self._writers:
            writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            # `drain` then waits until the kernel has everything: what is held is held in the pipes, where it counts.
            writer.transport.set_write_buffer_limits(high=0)
        self._pipes = (
            Pipe(client[0], server[1], lambda: _on(proxy.toxics, Direction.UP), buffer_bytes),
            Pipe(server[0], client[1], lambda: _on(proxy.toxics, Direction.DOWN), buffer_bytes),
        )

    @property
    def held_bytes(self) -> int:
        return sum(pipe.held_bytes for pipe in self._pipes)

    def look(self) -> None:
        """The toxics have changed."""
        for pipe in self._pipes:
            pipe.look()

    def reset(self) -> None:
        """Reset both sides."""
        for writer in self._writers:
            _abort(writer)

    async def run(self) -> None:
        """Carry bytes until both directions are over, or one breaks."""
        try:
            async with asyncio.TaskGroup() as group:
                for pipe in self._pipes:
                    group.create_task(pipe.run())
        except* (ConnectionError, OSError):
            self.reset()  # A reset on one side is a reset on the other.
        finally:
            for writer in self._writers:
                writer.close()
            with contextlib.suppress(OSError, TimeoutError):
                async with asyncio.timeout(1.0):
                    await asyncio.gather(*(writer.wait_closed() for writer in self._writers), return_exceptions=True)


def _on(toxics: tuple[Toxic, ...], way: Direction) -> list[Toxic]:
    return [toxic for toxic in toxics if toxic.on(way)]


def _abort(writer: asyncio.StreamWriter) -> None:
    sock = writer.get_extra_info("socket")
    if sock is not None and sock.fileno() >= 0:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    writer.transport.abort()
