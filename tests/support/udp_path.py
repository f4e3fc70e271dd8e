"""A stretch of network for media that a test cuts: datagrams of viewers pass through it, until they do not."""

from __future__ import annotations

import asyncio
import contextlib
import re
import threading
from collections.abc import AsyncIterator, Iterator
from typing import cast

__all__ = ["UdpPath", "udp_path", "udp_path_beside"]

_HOST = "127.0.0.1"
_CANDIDATE = re.compile(r"(a=candidate:\S+ \d+ udp \d+ )127\.0\.0\.1 (\d+)( typ host)", re.IGNORECASE)
Address = tuple[str, int]


class _Far(asyncio.DatagramProtocol):
    """The socket by which the gateway knows one viewer."""

    def __init__(self, path: UdpPath, near: asyncio.DatagramTransport, viewer: Address) -> None:
        self._path = path
        self._near = near
        self._viewer = viewer

    def datagram_received(self, data: bytes, addr: Address) -> None:
        if self._path.passes(self._near):
            self._near.sendto(data, self._viewer)


class _Near(asyncio.DatagramProtocol):
    """What viewers take for one port of the gateway."""

    def __init__(self, path: UdpPath, port: int) -> None:
        self._path = path
        self._port = port
        self._fars: dict[Address, asyncio.Task[asyncio.DatagramTransport]] = {}

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's is no subclass of it.
        self._transport = cast("asyncio.DatagramTransport", transport)

    def datagram_received(self, data: bytes, addr: Address) -> None:
        if not self._path.passes(self._transport):
            return
        far = self._fars.get(addr)
        if far is None:
            far = self._fars[addr] = asyncio.get_running_loop().create_task(self._open(addr))
        if far.done():
            far.result().sendto(data)
        else:
            far.add_done_callback(lambda done: done.result().sendto(data))

    async def _open(self, viewer: Address) -> asyncio.DatagramTransport:
        loop = asyncio.get_running_loop()
        made = lambda: _Far(self._path, self._transport, viewer)  # noqa: E731
        transport, _ = await loop.create_datagram_endpoint(made, remote_addr=(_HOST, self._port))
        self._path.opened.append(transport)
        return transport


class UdpPath:
    """Made by `udp_path`, in a loop of the caller's, or by `udp_path_beside`, in a thread of its own."""

    def __init__(self) -> None:
        self.opened: list[asyncio.DatagramTransport] = []
        self._cut: set[asyncio.DatagramTransport] = set()
        self._nears: list[asyncio.DatagramTransport] = []

    def passes(self, near: asyncio.DatagramTransport) -> bool:
        """Say whether a port that viewers know still leads anywhere."""
        return near not in self._cut

    def cut(self) -> None:
        """Swallow from now on whatever takes a way that was laid before."""
        self._cut.update(self._nears)

    async def through(self, answer: str) -> str:
        """Return an answer whose media takes a new way through here."""
        ways: dict[str, int] = {}
        for _, port, _ in _CANDIDATE.findall(answer):
            if port not in ways:
                made = lambda port=port: _Near(self, int(port))  # noqa: E731
                near, _ = await asyncio.get_running_loop().create_datagram_endpoint(made, local_addr=(_HOST, 0))
                self.opened.append(near)
                self._nears.append(near)
                ways[port] = near.get_extra_info("sockname")[1]
        assert ways, answer
        return _CANDIDATE.sub(lambda found: f"{found[1]}{_HOST} {ways[found[2]]}{found[3]}", answer)

    async def close(self) -> None:
        """Give its sockets back."""
        for transport in self.opened:
            transport.close()
        # The loop closes them in its next rounds.
        for _ in range(3):
            await asyncio.sleep(0)


@contextlib.asynccontextmanager
async def udp_path() -> AsyncIterator[UdpPath]:
    """Lay a path in this loop."""
    path = UdpPath()
    try:
        yield path
    finally:
        await path.close()


class Beside:
    """A path in another thread, for tests that block."""

    def __init__(self, path: UdpPath, loop: asyncio.AbstractEventLoop) -> None:
        self._path = path
        self._loop = loop

    def through(self, answer: str) -> str:
        """As `UdpPath.through`."""
        return asyncio.run_coroutine_threadsafe(self._path.through(answer), self._loop).result(5)

    def cut(self) -> None:
        """As `UdpPath.cut`; returns once nothing passes any more."""

        async def cut() -> None:
            self._path.cut()

        asyncio.run_coroutine_threadsafe(cut(), self._loop).result(5)


@contextlib.contextmanager
def udp_path_beside() -> Iterator[Beside]:
    """Lay a path in a thread of its own."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="udp path")
    thread.start()
    path = UdpPath()
    try:
        yield Beside(path, loop)
    finally:
        asyncio.run_coroutine_threadsafe(path.close(), loop).result(5)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
