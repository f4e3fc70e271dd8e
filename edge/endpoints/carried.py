"""One stream on a socket, from its `start` or `resume` to the one message that ends it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from edge.endpoints.admission import Admitted, Asked, admit
from edge.endpoints.parts import Parts
from edge.endpoints.resumed import Resumed
from edge.protocol.request import Call
from edge.protocol.socket_out import cancelled_frame, done_frame, error_frame, refusal_frame, started_frame
from edge.streams.contracts import Outlet, Readable
from edge.streams.slow_reader import SlowReader
from edge.transports.websocket import Carrier, SocketOutlet
from streamkit.ops import catalog
from streamkit.wire.errors import Code, HeadraceError

__all__ = ["Carried"]

_LOG = logging.getLogger("headrace.edge.websocket")


class Carried:
    """One stream that a socket carries; `start` or `read` is a task of its own, and ends with the stream.

    Args:
        parts: the edge.
        socket: what it shares with others.
        name: the client's name for it.
        credit: of its outlet.
        seq: number of the last event that the client has.
        listen: puts somebody who listens between the stream and its outlet.
    """

    __slots__ = ("_cancelled", "_listen", "_outlet", "_parts", "_reader", "_socket", "_stop", "_told", "name")

    def __init__(
        self,
        parts: Parts,
        socket: Carrier,
        name: str,
        *,
        credit: int | None,
        seq: int = 0,
        listen: Callable[[Outlet], Outlet] | None = None,
    ) -> None:
        self._parts = parts
        self._listen = listen
        self._socket = socket
        self.name = name
        self._outlet = SocketOutlet(socket, name, credit=credit, account=parts.sockets.frames, seq=seq)
        self._reader: Readable | None = None
        #: Stops a resumable stream for good; another instance's answers in its own time.
        self._stop: Callable[[], None] | None = None
        self._cancelled = False
        self._told = False

    # For the socket

    @property
    def over(self) -> bool:
        """Its last message was sent: the client may use the name again."""
        return self._told or self._outlet.told

    def grant(self, credit: int) -> None:
        """The client takes so many more bytes."""
        self._outlet.grant(credit)

    def relieved(self) -> None:
        """The socket is under its low mark again."""
        self._outlet.relieved()

    def cancel(self) -> None:
        """The client does not want it any more: stop the upstream, and drop what is held."""
        self._cancelled = True
        self._outlet.close()
        if self._stop is not None:
            self._stop()
        if self._reader is not None:
            self._reader.gone()

    def gone(self) -> None:
        """The socket is gone: a resumable stream goes on without it, any other is cancelled."""
        self._cancelled = True
        self._outlet.close()
        if self._reader is not None:
            self._reader.gone()

    # Tasks

    async def start(self, call: Call, asked: Asked) -> None:
        """Carry a new stream to its end.

        Args:
            call: its body is charged to `parts.bodies`, and given back.
            asked: who asks, and how.
        """
        try:
            await self._start(call, asked)
        except HeadraceError as error:
            self._parts.metrics.counter(catalog.REFUSED, error.code.value).value += 1
            self._tell(error_frame(error, self.name))
        except Exception:  # noqa: BLE001 - the task's outermost frame: this stream fails, its neighbours do not
            self._failed(asked.request_id)
        finally:
            self._outlet.close()

    async def read(self, resumed: Resumed) -> None:
        """Carry a stream that is resumed."""
        self._reader, self._stop = resumed.reader, resumed.stop
        self._outlet.on_full = self._unkept
        started = started_frame(
            self.name, stream=resumed.stream_id, request_id=resumed.request_id, backend=None, simulated=False
        )
        try:
            await self._deliver(resumed.reader, lambda: resumed.error, lambda: started)
        except Exception:  # noqa: BLE001 - as above
            self._failed(resumed.request_id)
        finally:
            self._reader = self._stop = None
            resumed.reader.gone()
            self._outlet.close()

    # Inside

    async def _start(self, call: Call, asked: Asked) -> None:
        admitted = await admit(self._parts, call, asked)
        try:
            if self._cancelled:
                self._tell(cancelled_frame(self.name))
                return
            self._reader = admitted.reader
            self._stop = admitted.kept.stop if admitted.kept is not None else None
            self._outlet.on_full = self._unkept if admitted.kept is not None else admitted.stop
            admitted.start()
            await self._deliver(admitted.reader, lambda: admitted.stream.error, lambda: self._started(admitted))
        finally:
            self._reader = self._stop = None
            admitted.leave()

    async def _deliver(
        self, reader: Readable, error: Callable[[], HeadraceError | None], started: Callable[[], bytes]
    ) -> None:
        """Say everything that is to be said of one stream, its last word included.

        Args:
            reader: what is read.
            error: returns what it failed with, once it has ended.
            started: returns the first message.
        """
        socket, outlet = self._socket, self._outlet
        await reader.decided()
        if (reply := reader.reply) is not None and reply.status != 204:
            self._tell(refusal_frame(reply.body, reply.status, self.name, error()))
            return
        if reader.committed and not self._cancelled:
            socket.write(started())
            reader.attach(outlet if self._listen is None else self._listen(outlet))
            await reader.ended()
            await self._drained()
        if self._cancelled:
            self._tell(cancelled_frame(self.name))
        elif not outlet.told:
            # Its end was the last event that this reader says it has.
            failed = error()
            self._tell(done_frame(self.name, outlet.seq) if failed is None else error_frame(failed, self.name))

    async def _drained(self) -> None:
        """Wait for the credit that the rest of an ended stream takes, for as long as a slow reader may."""
        if not self._outlet.held_bytes:
            return
        limit_s = self._parts.timings.slow_reader_s
        reader = SlowReader(asyncio.get_running_loop(), limit_s, self._outlet.abort)
        try:
            reader.pause(self._outlet)
            await self._outlet.drained()
        finally:
            reader.stop()

    def _started(self, admitted: Admitted) -> bytes:
        found = admitted.headers()
        headers = dict(found)
        backend = headers.get(b"x-headrace-backend")
        return started_frame(
            self.name,
            stream=admitted.stream_id,
            request_id=admitted.asked.request_id,
            backend=backend.decode() if backend is not None else None,
            simulated=b"x-headrace-simulated" in headers,
            headers=found,
        )

    def _unkept(self, error: HeadraceError) -> None:
        """What waits for credit cannot be kept here; the ring has it, and whoever comes back gets it."""
        self._outlet.close()
        self._tell(error_frame(error, self.name))
        if self._reader is not None:
            self._reader.gone()

    def _tell(self, last: bytes) -> None:
        """Send the stream's last message, unless one was sent."""
        if not self.over:
            self._told = True
            self._socket.write(last)

    def _failed(self, request_id: str) -> None:
        _LOG.exception("stream %s failed inside the gateway", request_id)
        error = HeadraceError(Code.INTERNAL, "The gateway failed while it served this request.")
        self._tell(error_frame(error, self.name))
