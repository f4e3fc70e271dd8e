"""One WebSocket connection (RFC 6455): the protocol of `websockets` without its I/O, carried by asyncio.

What comes in is parsed by `websockets`. What goes out is composed by whoever sends it and written straight to the
transport, as the writer extension does for HTTP; there is no compression, so a frame is its text and four bytes.
Silence, floods and half messages are bounded here; what a message means is not known here.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, MutableSet
from typing import Any, Final

from websockets.frames import CloseCode, Frame, Opcode
from websockets.protocol import OPEN, SEND_EOF
from websockets.server import ServerProtocol

from edge.server.acknowledged import Acknowledged, over_tls
from edge.server.inbox import Inbox
from edge.server.limits import SocketLimits
from edge.server.sockets import cut, lost_by, unsent
from streamkit.flow.bucket import TokenBucket
from streamkit.flow.budget import Account

__all__ = ["WebSocket"]

#: How long the client may take to end its half after our close.
_CLOSE_S: Final = 2.0
#: Fed to the parser at a time, so that a flood of tiny frames is noticed before all of it was answered.
_SLICE_BYTES: Final = 16 * 1024
#: Answers and pongs that a client may be owed while it reads nothing; one that asks on and on is cut.
_OWED_BYTES: Final = 64 * 1024
_TOO_SLOW: Final = 4408


class WebSocket(asyncio.Protocol):
    """An open WebSocket.

    Args:
        transport: the client's connection.
        state: after a successful handshake.
        limits: bounds on what the client may do.
        account: charged with what is held of messages that are not whole.
        paused: the transport is over its high mark already.
        home: the server's open connections; this one leaves it in the end.
    """

    def __init__(
        self,
        transport: asyncio.Transport,
        state: ServerProtocol,
        limits: SocketLimits,
        account: Account,
        *,
        paused: bool,
        home: MutableSet[Any],
    ) -> None:
        self.transport = transport
        #: How the client was lost, once it is.
        self.cause = "client"
        self._progress = Acknowledged(transport) if over_tls(transport) else None
        self._state = state
        self._limits = limits
        self._home = home
        self._loop = asyncio.get_running_loop()
        #: The transport is over its high mark: what is written is kept, more should wait for `on_resume`.
        self.paused = paused
        #: Nothing can be sent any more: a close was sent or received, or the connection is lost.
        self.closing = False
        #: The code of the close that was sent or received; 1006 = there was none.
        self.close_code: int = CloseCode.ABNORMAL_CLOSURE
        self.on_message: Callable[[bytes], None] | None = None
        self.on_pause: Callable[[], None] | None = None
        self.on_resume: Callable[[], None] | None = None
        #: No more messages come, and none can be sent.
        self.on_disconnect: Callable[[], None] | None = None
        #: The server is stopping: close when the work is done.
        self.on_shutdown: Callable[[], None] | None = None
        self._inbox = Inbox(self._loop, limits.message_s, account, self.close)
        self._frames = TokenBucket(limits.frames_per_s, 2 * limits.frames_per_s)
        self._heard_at = self._loop.time()
        self._pinged_at = 0.0
        self._timer: asyncio.TimerHandle = self._loop.call_later(limits.ping_s, self._look)
        self._lost: asyncio.Future[None] = self._loop.create_future()
        self._rest = b""
        #: Of `reply`, since the transport went over its high mark.
        self._owed_bytes = 0

    def begin(self, answer: bytes, rest: bytes) -> None:
        """Send the handshake's answer; what the client sent behind its request is taken in the loop's next turn."""
        self.write(answer)
        if rest:
            self._rest = rest
            self._loop.call_soon(self.data_received, b"")

    # For the application

    def write(self, frames: bytes) -> bool:
        """Write whole frames; one system call when the socket takes them.

        Returns:
            False while the transport is over its high mark: what was given is kept.
        """
        if not self.closing:
            if self._progress is not None:
                self._progress.sending(len(frames))
            self.transport.write(frames)
        return not self.paused

    def reply(self, frames: bytes) -> None:
        """Write what the client asked for, and cut one that asks on and on and does not read."""
        self.write(frames)
        if self.paused:
            self._owed_bytes += len(frames)
            if self._owed_bytes > _OWED_BYTES:
                self.abort(_TOO_SLOW)

    @property
    def queued_bytes(self) -> int:
        """Bytes in this process that the kernel has not taken yet."""
        return self.transport.get_write_buffer_size()

    @property
    def unsent_bytes(self) -> int:
        """Bytes that the client's kernel has not acknowledged: ours and those in the socket's send queue."""
        return unsent(self.transport) if self._progress is None else self._progress.unsent_bytes

    def close(self, code: int, reason: str = "") -> None:
        """Say that it is over and why, and end our half; the connection ends when the client has, or 2 s later.

        What the client still sends is read and dropped.

        Args:
            code: a close code.
            reason: for a person; cut at 123 bytes.
        """
        if self._state.state is OPEN:
            self._state.fail(code, reason.encode()[:123].decode(errors="ignore"))
            self._flush()

    def abort(self, code: int = CloseCode.ABNORMAL_CLOSURE) -> None:
        """Cut the connection by a reset, and drop all that is unsent, in the kernel too.

        Args:
            code: what `close_code` says; the client does not see it.
        """
        if not self.closing:
            self.close_code = code
        self._begin_close()
        cut(self.transport)

    async def closed(self) -> None:
        """Wait until the connection is lost."""
        await asyncio.shield(self._lost)

    # For the server

    def shutdown(self) -> None:
        """The server is stopping."""
        if self.on_shutdown is not None:
            self.on_shutdown()

    # asyncio.Protocol

    def pause_writing(self) -> None:
        """The transport is over its high mark."""
        self.paused = True
        if self.on_pause is not None:
            self.on_pause()

    def resume_writing(self) -> None:
        """The transport is under its low mark."""
        self.paused = False
        self._owed_bytes = 0
        if self.on_resume is not None:
            self.on_resume()

    def data_received(self, data: bytes) -> None:
        """Take bytes from the client."""
        if self._rest:
            data, self._rest = self._rest + data, b""
        self._heard_at = self._loop.time()
        if len(data) <= _SLICE_BYTES:
            self._feed(data)
            return
        for at in range(0, len(data), _SLICE_BYTES):
            self._feed(data[at : at + _SLICE_BYTES])

    def eof_received(self) -> None:
        """Half a close counts (law 6); after a close frame it is the end that we wait for."""
        if self.closing:
            self.transport.close()
        else:
            self.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """It is over."""
        self.cause = lost_by(exc)
        self._begin_close()
        self._timer.cancel()
        self.on_pause = self.on_resume = None
        self._home.discard(self)
        self._state.parser.close()  # a generator that holds its owner
        if not self._lost.done():
            self._lost.set_result(None)

    # Inside

    def _feed(self, data: bytes) -> None:
        state, inbox = self._state, self._inbox
        if not self.closing:
            inbox.add(len(data))
        state.receive_data(data)
        for frame in state.events_received():
            if isinstance(frame, Frame) and not self.closing:
                self._take(frame)
        if state.writes:
            self._flush()
        if not self.closing:
            inbox.watch()

    def _take(self, frame: Frame) -> None:
        """Take one whole frame; what closes and pings ask for, `websockets` has done already."""
        if not self._frames.try_take():
            self.close(4429, f"more than {self._limits.frames_per_s:g} messages a second")
        elif frame.opcode is Opcode.TEXT or frame.opcode is Opcode.CONT:
            if (message := self._inbox.take(frame)) is not None:
                self._deliver(message)
        elif frame.opcode is Opcode.BINARY:
            self.close(CloseCode.UNSUPPORTED_DATA, "messages are JSON in text frames")
        else:
            self._inbox.drop(frame)

    def _deliver(self, message: bytes) -> None:
        if not message.isascii():
            try:
                message.decode()
            except UnicodeDecodeError as exc:
                self.close(CloseCode.INVALID_DATA, f"no UTF-8 at byte {exc.start}")
                return
        if self.on_message is not None:
            self.on_message(message)

    def _look(self) -> None:
        """Ping a client that is silent, and give up one that stays so."""
        limits = self._limits
        if self._pinged_at > self._heard_at:
            self.abort(_TOO_SLOW)
            return
        silent_s = self._loop.time() - self._heard_at
        wait_s = limits.ping_s - silent_s
        if wait_s <= 0 and self.paused:
            wait_s = limits.ping_s  # it cannot see a ping; whoever pauses judges slow readers
        elif wait_s <= 0:
            self._pinged_at = self._loop.time()
            self._state.send_ping(b"")
            self._flush()
            wait_s = limits.pong_s
        self._timer = self._loop.call_later(wait_s, self._look)

    def _flush(self) -> None:
        """Write what the protocol wants written, and end our half when it wants that."""
        state = self._state
        ends = False
        for data in state.data_to_send():
            if data == SEND_EOF:
                ends = True
            elif not self.transport.is_closing():
                self.reply(data)
        if state.state is not OPEN:
            self._begin_close()
        if ends and not self.transport.is_closing():
            # Bytes that are still on their way here must not turn our close frame into a reset.
            if self.transport.can_write_eof():
                with contextlib.suppress(OSError):
                    self.transport.write_eof()
            else:
                self.transport.close()

    def _begin_close(self) -> None:
        """Nothing can be sent any more."""
        if self.closing:
            return
        self.closing = True
        if (said := self._state.close_sent or self._state.close_rcvd) is not None:
            self.close_code = said.code
        self._timer.cancel()
        self._timer = self._loop.call_later(_CLOSE_S, self.transport.abort)
        self._inbox.close()
        on_disconnect = self.on_disconnect
        self.on_message = self.on_disconnect = self.on_shutdown = None
        if on_disconnect is not None:
            on_disconnect()
