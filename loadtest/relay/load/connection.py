"""One connection of the client, and what was seen of the request on it."""

from __future__ import annotations

import errno
import select
import socket
import time
from typing import Final, Literal

from loadtest.relay.load.chunks import MODEL
from loadtest.relay.load.responses import EventScanner, ProtocolError, ResponseReader
from loadtest.relay.load.sockets import SocketReader, start_frame

#: Bounds what a saturated stream leaves in the kernel.
RCVBUF_BYTES: Final = 128 * 1024
READ_BYTES: Final = 65536

Outcome = Literal["whole", "cut", "refused", "errored", "miscounted", "unfinished"]


PROMPT: Final = "Say in a few plain words how a mill wheel turns, and why the water has to come in steadily. " * 2


def request_bytes(host: str, port: int, *, stream: bool, max_tokens: int, resumable: bool = False) -> bytes:
    """Return a chat completion request with a prompt of about 200 bytes."""
    body = (
        f'{{"model":"{MODEL}","messages":[{{"role":"user","content":"{PROMPT}"}}],'
        f'"max_tokens":{max_tokens},"stream":{"true" if stream else "false"}}}'
    ).encode()
    # The shortest window: what a finished stream keeps is not what is measured.
    resume = "X-Headrace-Resume: 1\r\n" if resumable else ""
    return (
        f"POST /v1/chat/completions HTTP/1.1\r\nHost: {host}:{port}\r\nUser-Agent: headrace-bench\r\n{resume}"
        f"Accept: */*\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    ).encode() + body


class Connection:
    """A TCP connection that carries one request at a time.

    Args:
        epoll: where it registers itself.
        stream: the answers are event streams.
        socket_tokens: speak WebSocket and ask for so many tokens; what `ask` sends is the handshake then.
    """

    __slots__ = (
        "_epoll", "_outbox", "asked", "asked_ns", "connected", "fd", "first_ns", "last_ns", "outcome", "reader",
        "refusal", "scanner", "sock", "stream",
    )  # fmt: skip

    def __init__(self, host: str, port: int, epoll: select.epoll, *, stream: bool, socket_tokens: int = 0) -> None:
        self._epoll = epoll
        self._outbox = b""
        self.stream = stream
        #: Requests so far.
        self.asked = 0
        self.reader: ResponseReader | SocketReader = ResponseReader()
        if socket_tokens:
            self.reader = SocketReader(start_frame(PROMPT, socket_tokens))
        self.scanner = EventScanner()
        self.outcome: Outcome | None = None
        self.refusal = ""
        #: When the request was wanted, when its first token was there, and the last one so far; monotonic ns.
        self.asked_ns = self.first_ns = self.last_ns = 0
        self.connected = False
        self.sock = socket.socket()
        self.sock.setblocking(False)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RCVBUF_BYTES)
        self.fd = self.sock.fileno()
        error = self.sock.connect_ex((host, port))
        epoll.register(self.fd, select.EPOLLIN | select.EPOLLOUT)
        if error not in (0, errno.EINPROGRESS):
            self._end("refused")

    def ask(self, request: bytes, asked_ns: int) -> None:
        """Send a request; the connection carries none."""
        self.reader.reset()
        self.scanner.reset()
        self.outcome = None
        self.asked += 1
        self.asked_ns = asked_ns
        self.first_ns = self.last_ns = 0
        self._outbox = request
        if self.connected:
            self.writable()

    def writable(self) -> None:
        """Send what is left of the request."""
        if not self.connected:
            self.connected = True
            self._epoll.modify(self.fd, select.EPOLLIN)
        if self._outbox:
            try:
                sent = self.sock.send(self._outbox)
            except BlockingIOError:
                sent = 0
            except OSError as error:
                self.refusal = f"connection: {error.strerror}"
                self._end("refused")
                return
            self._outbox = self._outbox[sent:]
            if self._outbox:
                self._epoll.modify(self.fd, select.EPOLLIN | select.EPOLLOUT)

    def read(self) -> tuple[int, list[int]]:
        """Read once: when that was (monotonic ns), and the stamps of the tokens that came."""
        try:
            data = self.sock.recv(READ_BYTES)
        except BlockingIOError:
            return 0, []
        except OSError as error:
            self.refusal = self.refusal or f"connection: {error.strerror}"
            data = b""
        now = time.monotonic_ns()
        reader = self.reader
        if not data:
            reader.feed_eof()
            self._settle(at_eof=True)
            return now, []
        try:
            body = reader.feed(data)
        except ProtocolError as error:
            self.refusal = str(error)
            self._end("cut")
            return now, []
        if isinstance(reader, SocketReader) and reader.pending:
            self._outbox, reader.pending = reader.pending, b""
            self.writable()
        stamps: list[int] = []
        if reader.status == 200:
            if self.stream:
                stamps = self.scanner.stamps(body)
            if not self.first_ns and (stamps or not self.stream):
                self.first_ns = now
        elif not self.refusal:
            self.refusal = f"status {reader.status}: {body[:200].decode(errors='replace')}"
        if reader.ended:
            self._settle(at_eof=False)
        return now, stamps

    def _settle(self, *, at_eof: bool) -> None:
        """The response is over; say how it ended."""
        scanner = self.scanner
        if self.outcome is not None:
            return
        if self.reader.status != 200:
            self._end("refused")
        elif not self.reader.ended:
            self._end("cut")
        elif not self.stream:
            self._end("whole")
        elif scanner.error:
            self.refusal = scanner.error
            self._end("errored")
        elif not scanner.done:
            self._end("cut")
        else:
            self._end("whole" if scanner.promised == scanner.tokens else "miscounted")
        if at_eof:
            self.reader.keep_alive = False

    def _end(self, outcome: Outcome) -> None:
        self.outcome = outcome
        if outcome in ("refused", "cut") and not self.reader.ended:
            self.reader.keep_alive = False

    @property
    def reusable(self) -> bool:
        """Whether another request may follow on this connection."""
        return self.reader.ended and self.reader.keep_alive

    @property
    def stale(self) -> bool:
        """It was kept for another request, but the other side had closed it: no byte of an answer came."""
        return self.asked > 1 and self.outcome == "refused" and not self.reader.status

    def close(self) -> None:
        """Close the socket, which takes it out of the epoll too."""
        self.sock.close()
