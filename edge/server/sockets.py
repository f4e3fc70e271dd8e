"""Socket options of a client connection: few unsent bytes in the kernel, and a silent client is found."""

from __future__ import annotations

import asyncio
import socket
import struct
import sys
from typing import Final

__all__ = ["cut", "keep_alive", "tune"]

_RESET: Final = struct.pack("ii", 1, 0)


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


def cut(transport: asyncio.Transport) -> None:
    """End a connection by a reset, and drop what is unsent, in the kernel too.

    A plain close would send all that the kernel holds, for as long as a reader that takes nothing lets it, and then a
    FIN, by which the cut body of an HTTP/1.0 answer looks complete.
    """
    sock: socket.socket | None = transport.get_extra_info("socket")
    if sock is not None and not transport.is_closing() and sock.family in (socket.AF_INET, socket.AF_INET6):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    transport.abort()
