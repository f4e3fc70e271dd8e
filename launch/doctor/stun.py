"""Asking a STUN or TURN server whether it is there: RFC 8489 binding, and RFC 8656 allocation up to its 401.

A TURN server asks whoever allocates without credentials for them, so the check needs none, and holds nothing there.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import secrets
import struct
from dataclasses import dataclass
from typing import Final

__all__ = ["Answer", "Server", "ServerError", "ask", "parsed", "question", "read"]

_COOKIE: Final = 0x2112A442
_BINDING: Final = 0x0001
_ALLOCATE: Final = 0x0003
_SUCCESS: Final = 0x0100
_ERROR: Final = 0x0110
_ERROR_CODE: Final = 0x0009
_REQUESTED_TRANSPORT: Final = 0x0019
_UDP: Final = 17
_HEADER: Final = struct.Struct("!HHI12s")
_URI: Final = re.compile(
    r"^(?P<scheme>stun|turn|turns):(?P<host>\[[0-9a-fA-F:.]+\]|[^\s:?\[\]/]+)(?::(?P<port>\d{1,5}))?"
    r"(?:\?transport=(?P<transport>udp|tcp))?$"
)
#: RFC 8489 §6.2.1 begins at half a second and doubles.
_FIRST_WAIT_S: Final = 0.5
_MESSAGE_BYTES: Final = 2_048


class ServerError(ValueError):
    """A server's address cannot be used, or what it says is no STUN; the message is one line."""


@dataclass(frozen=True, slots=True)
class Server:
    """One server as an `iceServers` URI names it (RFC 7064, RFC 7065)."""

    uri: str
    relays: bool
    host: str
    port: int
    stream: bool


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back: 0 = success, else the error code (401 = it asks for credentials)."""

    code: int


def parsed(uri: str) -> Server:
    """Read `stun:HOST[:PORT]` or `turn:HOST[:PORT][?transport=udp|tcp]`.

    Raises:
        ServerError: it is neither, or `turns:`, which is not asked here.
    """
    match = _URI.match(uri)
    if match is None:
        raise ServerError(f"expected stun:HOST:PORT or turn:HOST:PORT, with ?transport=tcp where it is, got {uri!r}")
    if match["scheme"] == "turns":
        raise ServerError(f"{uri}: TURN over TLS is not asked here; try openssl s_client -connect HOST:PORT")
    port = int(match["port"] or 3_478)
    if not 1 <= port <= 65_535:
        raise ServerError(f"{uri}: expected a port from 1 to 65535")
    return Server(uri, match["scheme"] == "turn", match["host"].strip("[]"), port, match["transport"] == "tcp")


def question(*, relays: bool, transaction: bytes) -> bytes:
    """Return the request: an allocation for a TURN server, a binding otherwise."""
    if not relays:
        return _HEADER.pack(_BINDING, 0, _COOKIE, transaction)
    wanted = struct.pack("!HHB3x", _REQUESTED_TRANSPORT, 4, _UDP)
    return _HEADER.pack(_ALLOCATE, len(wanted), _COOKIE, transaction) + wanted


def read(data: bytes, transaction: bytes) -> Answer:
    """Read the answer to the request with this transaction.

    Raises:
        ServerError: it is no answer to it.
    """
    if len(data) < _HEADER.size:
        raise ServerError("what answers is no STUN server")
    kind, length, cookie, theirs = _HEADER.unpack_from(data)
    if cookie != _COOKIE or theirs != transaction or len(data) < _HEADER.size + length:
        raise ServerError("what answers is no STUN server")
    if kind & _ERROR == _SUCCESS:
        return Answer(0)
    body = data[_HEADER.size : _HEADER.size + length]
    while len(body) >= 4:
        attribute, size = struct.unpack_from("!HH", body)
        if attribute == _ERROR_CODE and size >= 4 and len(body) >= 8:
            return Answer((body[6] & 7) * 100 + body[7])
        body = body[4 + (size + 3) // 4 * 4 :]
    raise ServerError("it answered with an error that it does not name")


async def ask(server: Server, *, timeout_s: float) -> Answer:
    """Ask a server over its own transport.

    Raises:
        ServerError: no STUN server answers.
        OSError: it cannot be reached, or its name has no address.
        TimeoutError: no answer in time.
    """
    transaction = secrets.token_bytes(12)
    request = question(relays=server.relays, transaction=transaction)
    async with asyncio.timeout(timeout_s):
        data = await (_over_tcp(server, request) if server.stream else _over_udp(server, request))
    return read(data, transaction)


async def _over_tcp(server: Server, request: bytes) -> bytes:
    reader, writer = await asyncio.open_connection(server.host, server.port)
    try:
        writer.write(request)
        head = await reader.readexactly(_HEADER.size)
        return head + await reader.readexactly(min(_MESSAGE_BYTES, _HEADER.unpack(head)[1]))
    except asyncio.IncompleteReadError:
        raise ServerError("it closed the connection without an answer") from None
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


class _Waiting(asyncio.DatagramProtocol):
    def __init__(self) -> None:
        self.answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    def datagram_received(self, data: bytes, addr: tuple[str | int, ...]) -> None:
        if not self.answer.done():
            self.answer.set_result(data)

    def error_received(self, exc: Exception) -> None:
        if not self.answer.done():
            self.answer.set_exception(exc)


async def _over_udp(server: Server, request: bytes) -> bytes:
    loop = asyncio.get_running_loop()
    transport, waiting = await loop.create_datagram_endpoint(_Waiting, remote_addr=(server.host, server.port))
    wait_s = _FIRST_WAIT_S
    try:
        while True:
            # UDP loses packets; who is there answers one of them.
            transport.sendto(request)
            await asyncio.wait({waiting.answer}, timeout=wait_s)
            if waiting.answer.done():
                return waiting.answer.result()
            wait_s *= 2
    finally:
        transport.close()
