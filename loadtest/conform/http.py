"""A client on a bare connection: it says what a case says, when it says it, and notes when each byte came."""

from __future__ import annotations

import asyncio
import socket
import ssl
from dataclasses import dataclass, field
from time import monotonic
from typing import Final, NamedTuple, Self
from urllib.parse import urlsplit

__all__ = ["Answer", "Channel", "ProtocolError", "Target", "request"]

_READ_BYTES: Final = 65_536
_HEAD_BYTES: Final = 65_536


class ProtocolError(Exception):
    """What came is not HTTP, or stopped before it was a whole answer's head."""


@dataclass(frozen=True, slots=True)
class Target:
    """The gateway under test.

    Args:
        url: base address, with or without `/v1`.
        model: what to ask for.
        key: bearer token; empty = none.
    """

    url: str
    model: str = ""
    key: str = ""

    @property
    def prefix(self) -> str:
        """Path of its address, without a trailing slash or `/v1`."""
        return urlsplit(self.url).path.rstrip("/").removesuffix("/v1")

    @property
    def authority(self) -> str:
        """Host and port, for the `Host` header."""
        return urlsplit(self.url).netloc


class Piece(NamedTuple):
    """A part of a body, without HTTP's framing."""

    at: float  #: monotonic seconds
    data: bytes


@dataclass(slots=True)
class Answer:
    """One response, as far as it came."""

    status: int
    version: str
    fields: list[tuple[str, str]]
    pieces: list[Piece] = field(default_factory=list)
    #: The body ended as HTTP says it must.
    whole: bool = False
    #: The connection ended first; how.
    cut: str = ""
    began: float = 0.0
    ended: float = 0.0

    @property
    def headers(self) -> dict[str, str]:
        """Fields by lower-case name; the last of several."""
        return dict(self.fields)

    @property
    def body(self) -> bytes:
        """All of the body that came."""
        return b"".join(piece.data for piece in self.pieces)

    @property
    def outcome(self) -> str:
        """How it ended, in a word or two."""
        return "whole" if self.whole else self.cut or "still open"


def request(
    target: Target,
    body: bytes = b"",
    *,
    method: str = "POST",
    path: str = "/v1/chat/completions",
    version: str = "1.1",
    headers: dict[str, str] | None = None,
) -> bytes:
    """Return a request's bytes; a header given as "" is left out."""
    lines = {"Host": target.authority, "Accept": "*/*"}
    if target.key:
        lines["Authorization"] = f"Bearer {target.key}"
    if body or method == "POST":
        lines |= {"Content-Type": "application/json", "Content-Length": str(len(body))}
    lines |= headers or {}
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items() if value)
    return f"{method} {target.prefix}{path} HTTP/{version}\r\n{head}\r\n".encode() + body


class Channel:
    """One connection to the gateway; an async context manager. Every wait is bounded by `patience_s`."""

    def __init__(self, target: Target, patience_s: float, *, window_bytes: int = 0) -> None:
        self._target = target
        self._patience_s = patience_s
        self._window_bytes = window_bytes
        self._buffer = bytearray()
        self._ended = ""
        self._chunk_left = 0

    async def __aenter__(self) -> Self:
        parts = urlsplit(self._target.url)
        secure = parts.scheme == "https"
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(self._patience_s):
            found = await loop.getaddrinfo(
                parts.hostname, parts.port or (443 if secure else 80), type=socket.SOCK_STREAM
            )
            family, kind, protocol, _, address = found[0]
            sock = socket.socket(family, kind, protocol)
            sock.setblocking(False)
            if self._window_bytes:
                # Before the connection is made: the window is agreed on then.
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self._window_bytes)
            try:
                await loop.sock_connect(sock, address)
                self._reader, self._writer = await asyncio.open_connection(
                    sock=sock,
                    limit=4096 if self._window_bytes else 2**20,
                    ssl=ssl.create_default_context() if secure else None,
                    server_hostname=parts.hostname if secure else None,
                )
            except BaseException:
                sock.close()
                raise
        return self

    async def __aexit__(self, *_: object) -> None:
        self.reset()

    async def send(self, *pieces: bytes) -> None:
        """Send pieces one after the other."""
        async with asyncio.timeout(self._patience_s):
            for piece in pieces:
                self._writer.write(piece)
                await self._writer.drain()

    def half_close(self) -> None:
        """Say that nothing more will be sent."""
        self._writer.write_eof()

    def close(self) -> None:
        """Close as a client does that leaves."""
        self._writer.close()

    def reset(self) -> None:
        """Close at once; what is unsent or unread is dropped."""
        self._writer.transport.abort()

    async def _more(self, wait_s: float) -> bool:
        """Read once; False at the end of what the gateway sends.

        Raises:
            TimeoutError: nothing came.
        """
        if self._ended:
            return False
        try:
            async with asyncio.timeout(wait_s):
                data = await self._reader.read(_READ_BYTES)
        except (ConnectionError, ssl.SSLError):
            self._ended = "reset"
            return False
        self._buffer += data
        if not data:
            self._ended = "closed"
        return bool(data)

    async def _until(self, mark: bytes, wait_s: float) -> bytes:
        while (at := self._buffer.find(mark)) < 0:
            if len(self._buffer) > _HEAD_BYTES:
                raise ProtocolError(f"no {mark!r} in {_HEAD_BYTES} bytes")
            if not await self._more(wait_s):
                raise ProtocolError(f"{self._ended} after {bytes(self._buffer[:80])!r}")
        data = bytes(self._buffer[: at + len(mark)])
        del self._buffer[: at + len(mark)]
        return data

    async def head(self, wait_s: float | None = None) -> Answer:
        """Read a status line and fields, past interim answers unless they are asked for.

        Raises:
            ProtocolError: something else came, or an end.
            TimeoutError: nothing came.
        """
        head = (await self._until(b"\r\n\r\n", wait_s or self._patience_s)).decode("latin-1")
        line, *lines = head.split("\r\n")[:-2]
        version, _, rest = line.partition(" ")
        if not version.startswith("HTTP/1.") or not rest[:3].isdigit():
            raise ProtocolError(f"no status line: {line[:80]!r}")
        pairs = [text.partition(":") for text in lines]
        answer = Answer(
            int(rest[:3]), version[5:], [(name.strip().lower(), value.strip()) for name, _, value in pairs]
        )
        answer.began = monotonic()
        self._chunk_left = 0
        return answer

    async def more(self, answer: Answer, wait_s: float | None = None) -> bool:
        """Read the next piece of the body; False once it is over, well or not.

        Raises:
            TimeoutError: nothing came.
            ProtocolError: broken framing.
        """
        wait_s = wait_s or self._patience_s
        if answer.whole or answer.cut:
            return False
        try:
            if answer.headers.get("transfer-encoding", "").lower() == "chunked":
                piece = await self._chunked(wait_s)
            elif length := answer.headers.get("content-length"):
                if not length.isdecimal():
                    raise ProtocolError(f"no length: {length[:40]!r}")
                piece = await self._sized(int(length) - sum(len(piece.data) for piece in answer.pieces), wait_s)
            else:
                piece = await self._to_the_end(wait_s)
        except ConnectionError as error:
            answer.cut = str(error)
            answer.ended = monotonic()
            return False
        if piece:
            answer.pieces.append(Piece(monotonic(), piece))
            return True
        answer.whole = True
        answer.ended = monotonic()
        return False

    async def _chunked(self, wait_s: float) -> bytes:
        if not self._chunk_left:
            line = await self._line(wait_s)
            size = line.split(b";")[0].strip()
            try:
                self._chunk_left = int(size, 16)
            except ValueError:
                raise ProtocolError(f"no chunk size: {line[:80]!r}") from None
            if not self._chunk_left:
                while await self._line(wait_s):
                    pass
                return b""
        piece = await self._sized(self._chunk_left, wait_s)
        self._chunk_left -= len(piece)
        if not self._chunk_left and await self._line(wait_s):
            raise ProtocolError("a chunk is longer than it says")
        return piece

    async def _line(self, wait_s: float) -> bytes:
        while (at := self._buffer.find(b"\n")) < 0:
            if not await self._more(wait_s):
                raise ConnectionError(self._ended)
        line = bytes(self._buffer[:at])
        del self._buffer[: at + 1]
        return line.rstrip(b"\r")

    async def _sized(self, size: int, wait_s: float) -> bytes:
        if size <= 0:
            return b""
        if not self._buffer and not await self._more(wait_s):
            raise ConnectionError(self._ended)
        piece = bytes(self._buffer[:size])
        del self._buffer[:size]
        return piece

    async def _to_the_end(self, wait_s: float) -> bytes:
        if not self._buffer and not await self._more(wait_s) and self._ended == "reset":
            raise ConnectionError(self._ended)
        piece = bytes(self._buffer)
        self._buffer.clear()
        return piece

    async def rest(self, answer: Answer, within_s: float | None = None) -> Answer:
        """Read the body to its end; a body that does not end in time stays open."""
        try:
            async with asyncio.timeout(within_s or self._patience_s):
                while await self.more(answer, within_s or self._patience_s):
                    pass
        except TimeoutError:
            answer.ended = monotonic()
        return answer
