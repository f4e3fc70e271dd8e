"""An outlet for servers without the writer extension: held bytes and one task that sends them.

It costs a task switch for each write, so it is only the fallback: any ASGI server can run the edge, ours runs it
well.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable

from edge.transports.http import Receive, Send
from streamkit.flow.marks import Marks

__all__ = ["ChannelOutlet"]


class ChannelOutlet:
    """Holds written bytes until `send` has taken them; pauses at the high mark.

    Args:
        high_bytes: the mark at which `write` says that the reader is too slow.
    """

    def __init__(self, high_bytes: int) -> None:
        self.on_pause: Callable[[], None] | None = None
        self.on_resume: Callable[[], None] | None = None
        self.on_disconnect: Callable[[], None] | None = None
        self._held: list[bytes] = []
        self._news = asyncio.Event()
        self._closed = False
        #: Cut: what was sent is not the whole body.
        self.aborted = False
        self._marks = Marks(high_bytes, on_pause=self._paused, on_resume=self._resumed)

    def write(self, data: bytes) -> bool:
        """Hold whole events for the sender; False = over the high mark."""
        if not self._closed:
            self._held.append(data)
            self._marks.add(len(data))
            self._news.set()
        return not self._marks.paused

    @property
    def unsent_bytes(self) -> int:
        """Bytes that the server has not taken."""
        return self._marks.level_bytes

    def abort(self) -> None:
        """Drop what is held; the body is left unfinished, which ends the connection under any server."""
        self._closed = self.aborted = True
        self._drop()
        self._news.set()

    def finish(self) -> None:
        """No more writes: `pump` returns when all is sent."""
        self._closed = True
        self._news.set()

    async def pump(self, send: Send) -> None:
        """Send what is written, together what came together, until `finish`."""
        while self._held or not self._closed:
            if not self._held:
                self._news.clear()
                await self._news.wait()
                continue
            data = b"".join(self._held)
            self._held.clear()
            await send({"type": "http.response.body", "body": data, "more_body": True})
            self._marks.remove(len(data))

    async def watch(self, receive: Receive) -> None:
        """Report the client's disconnect."""
        while (await receive())["type"] != "http.disconnect":
            pass
        if self.on_disconnect is not None:
            self.on_disconnect()

    @contextlib.asynccontextmanager
    async def watching(self, receive: Receive) -> AsyncIterator[None]:
        """Watch for the disconnect while the body of the `async with` runs."""
        task = asyncio.create_task(self.watch(receive))
        try:
            yield
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    def _drop(self) -> None:
        self._marks.remove(sum(map(len, self._held)))
        self._held.clear()

    def _paused(self) -> None:
        if self.on_pause is not None:
            self.on_pause()

    def _resumed(self) -> None:
        if self.on_resume is not None:
            self.on_resume()
