"""Socket options of a client connection: few unsent bytes in the kernel, and a silent client is found."""

from __future__ import annotations

import asyncio
import errno
import fcntl
import socket
import struct
import sys
from typing import Final

__all__ = ["cut", "keep_alive", "leave", "lost_by", "tune", "unread", "unsent"]

_GOODBYE_S: Final = 1.0
_RESET: Final = struct.pack("ii", 1, 0)
#: Linux: bytes in the socket's send queue that the peer has not acknowledged (tcp(7), SIOCOUTQ).
_SIOCOUTQ: Final = 0x5411
#: Linux: bytes that came and were not read (tcp(7), SIOCINQ).
_SIOCINQ: Final = 0x541B
_SILENT: Final = frozenset({errno.ETIMEDOUT, errno.EHOSTUNREACH, errno.ENETUNREACH})


def tune(sock: socket.socket, *, user_timeout_ms: int, notsent_bytes: int) -> None:
    """Set the options of one accepted connection; sockets other than TCP have none of them.

    Args:
        sock: the connection.
        user_timeout_ms: `TCP_USER_TIMEOUT`: bytes that stay unacknowledged, or unsent because the peer's window is
            shut, end the connection after this (tcp(7)). Keep-alive probes find an idle peer in the same time.
        notsent_bytes: `TCP_NOTSENT_LOWAT`: what the kernel may hold beyond what the network is carrying.
    """
    if sock.family not in (socket.AF_INET, socket.AF_INET6):
        return
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    if sys.platform == "linux":
        idle_s, interval_s, probes = keep_alive(user_timeout_ms)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, idle_s)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, interval_s)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, probes)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, user_timeout_ms)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, notsent_bytes)


def keep_alive(within_ms: int) -> tuple[int, int, int]:
    """Return (idle seconds, interval seconds, probes) that find a silent peer within about `within_ms`.

    The kernel counts in whole seconds, so below 2,000 ms it takes two seconds all the same.
    """
    idle_s = min(max(1, within_ms // 2_000), 32_767)
    interval_s = max(1, min(within_ms // 6_000, 32_767))
    probes = min(max(1, -(-(within_ms // 1_000 - idle_s) // interval_s)), 127)
    return idle_s, interval_s, probes


def unsent(transport: asyncio.Transport) -> int:
    """Return bytes that the client's kernel has not acknowledged: ours and those in the socket's send queue."""
    return transport.get_write_buffer_size() + _in_kernel(transport, _SIOCOUTQ)


def unread(transport: asyncio.Transport) -> int:
    """Return bytes that the kernel has for us and that we have not read yet."""
    return _in_kernel(transport, _SIOCINQ)


def _in_kernel(transport: asyncio.Transport, question: int) -> int:
    sock = transport.get_extra_info("socket")
    # uvloop's socket keeps its number after the close, when it may be another's.
    if sock is None or transport.is_closing() or sock.fileno() < 0:
        return 0
    return int(struct.unpack("i", fcntl.ioctl(sock.fileno(), question, b"\0" * 4))[0])


def lost_by(exc: Exception | None) -> str:
    """Return how a client was lost, by what `connection_lost` was told: `silent` = the kernel gave it up."""
    return "silent" if isinstance(exc, OSError) and exc.errno in _SILENT else "client"


def leave(transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
    """Close an idle connection, without waiting for the client's own goodbye.

    TLS would wait for it for half a minute, and a pool that keeps idle connections never looks.
    """
    transport.close()
    if transport.get_extra_info("ssl_object") is not None:
        loop.call_later(_GOODBYE_S, transport.abort)


def cut(transport: asyncio.Transport) -> None:
    """End a connection by a reset, and drop what is unsent, in the kernel too.

    A plain close would send all that the kernel holds, for as long as a reader that takes nothing lets it, and then a
    FIN, by which the cut body of an HTTP/1.0 answer looks complete.
    """
    sock: socket.socket | None = transport.get_extra_info("socket")
    if sock is not None and not transport.is_closing() and sock.family in (socket.AF_INET, socket.AF_INET6):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    transport.abort()
