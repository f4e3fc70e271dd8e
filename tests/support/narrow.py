"""A network that takes so much and no more: a relay of datagrams with a queue, between a viewer and an edge."""

from __future__ import annotations

import asyncio
import contextlib
import re
import threading
from collections.abc import Callable, Iterator
from time import monotonic
from typing import Any, Final, Self

__all__ = ["NarrowLink", "narrow_link"]

#: What a home router holds at its bottleneck.
_QUEUE_S: Final = 0.5
_CANDIDATE: Final = re.compile(r"^(a=candidate:\S+ \d+ udp \d+ )(\S+) (\d+)( .*)$", re.MULTILINE | re.IGNORECASE)

Address = tuple[str, int]


class NarrowLink:
    """An async context manager.

    Hand the viewer `answer(…)`, and the edge an offer without candidates, or it would find the way past the link.

    Args:
        bits_per_s: towards the viewer; may be changed while it runs.
        queue_s: what would wait longer is lost.
    """

    def __init__(self, bits_per_s: float, *, queue_s: float = _QUEUE_S) -> None:
        self.bits_per_s = bits_per_s
        self._queue_s = queue_s
        self.dropped = 0
        #: When each datagram went out to the viewer, and its size.
        self.passed: list[tuple[float, int]] = []
        self._free_at = 0.0
        self._edge: Address | None = None
        self._viewer: Address | None = None
        self._towards_viewer: asyncio.DatagramTransport | None = None
        self._towards_edge: asyncio.DatagramTransport | None = None

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        here = ("127.0.0.1", 0)
        viewer, edge = _Side(self._from_viewer), _Side(self._from_edge)
        self._towards_viewer, _ = await loop.create_datagram_endpoint(lambda: viewer, local_addr=here)
        self._towards_edge, _ = await loop.create_datagram_endpoint(lambda: edge, local_addr=here)
        return self

    async def __aexit__(self, *_: object) -> None:
        for transport in (self._towards_viewer, self._towards_edge):
            if transport is not None:
                transport.close()

    def answer(self, sdp: str) -> str:
        """Return an edge's answer whose candidate is this link."""
        assert self._towards_viewer is not None
        found = _CANDIDATE.search(sdp)
        assert found is not None, "an answer has the edge's candidate"
        self._edge = (found[2], int(found[3]))
        host, port = self._towards_viewer.get_extra_info("sockname")
        return _CANDIDATE.sub(rf"\g<1>{host} {port}\g<4>", sdp)

    def rate_bps(self, seconds: float) -> float:
        """Return what came through in the last so many seconds."""
        since = monotonic() - seconds
        return sum(size for at, size in self.passed if at > since) * 8 / seconds

    @property
    def queue_s(self) -> float:
        """How long a datagram that comes now waits."""
        return max(0.0, self._free_at - monotonic())

    def _from_viewer(self, data: bytes, address: Address) -> None:
        self._viewer = address
        if self._towards_edge is not None and self._edge is not None:
            self._towards_edge.sendto(data, self._edge)

    def _from_edge(self, data: bytes, _: Address) -> None:
        if self.queue_s > self._queue_s:
            self.dropped += 1
            return
        now = monotonic()
        self._free_at = max(now, self._free_at) + len(data) * 8 / self.bits_per_s
        asyncio.get_running_loop().call_at(asyncio.get_running_loop().time() + self._free_at - now, self._pass, data)

    def _pass(self, data: bytes) -> None:
        if self._towards_viewer is not None and self._viewer is not None and not self._towards_viewer.is_closing():
            self.passed.append((monotonic(), len(data)))
            self._towards_viewer.sendto(data, self._viewer)


@contextlib.contextmanager
def narrow_link(bits_per_s: float, *, queue_s: float = _QUEUE_S) -> Iterator[NarrowLink]:
    """Run a link in a thread of its own, for tests that have no event loop."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="narrow link")
    thread.start()
    link = NarrowLink(bits_per_s, queue_s=queue_s)
    try:
        asyncio.run_coroutine_threadsafe(link.__aenter__(), loop).result(10)
        yield link
    finally:
        asyncio.run_coroutine_threadsafe(link.__aexit__(), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()


class _Side(asyncio.DatagramProtocol):
    def __init__(self, take: Callable[[bytes, Address], None]) -> None:
        self._take = take

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self._take(data, addr)
