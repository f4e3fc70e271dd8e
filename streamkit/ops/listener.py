"""Addresses to listen on: bound by ourselves, so that a taken port is one clear line and port 0 is known at once."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
import ssl
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import Final

__all__ = ["BindError", "Listener", "bound", "shown_url"]

_BACKLOG: Final = 2048
#: What a person can open where a service listens on every address.
_REACHABLE: Final = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104  shown, not listened on


class BindError(Exception):
    """An address cannot be listened on; the message is one line for a person."""


@dataclass(frozen=True, kw_only=True)
class Listener:
    """One address and the application behind it."""

    app: Callable[..., Awaitable[None]]
    host: str = "127.0.0.1"
    port: int = 0  #: 0 = any free port.
    #: uvicorn's name of an HTTP protocol, or a protocol class of our own.
    http: str | type[asyncio.Protocol] = "httptools"
    tls: ssl.SSLContext | None = None
    keep_alive_ms: int = 5_000  #: An idle connection is closed after this.


@contextlib.contextmanager
def bound(listener: Listener) -> Iterator[list[socket.socket]]:
    """Hold listening sockets for every address of the listener's host, all on one port.

    Raises:
        BindError: the name has no address, or the port is taken or forbidden.
    """
    sockets: list[socket.socket] = []
    try:
        try:
            _bind(listener.host, listener.port, sockets)
        except OSError as error:
            raise BindError(f"cannot listen on {_place(listener.host, listener.port)}: {error.strerror}") from None
        yield sockets
    finally:
        for sock in sockets:
            sock.close()


def shown_url(listener: Listener, sock: socket.socket) -> str:
    """Return the base address under which `sock` can be reached from this machine."""
    host, port = sock.getsockname()[:2]
    scheme = "http" if listener.tls is None else "https"
    return f"{scheme}://{_place(_REACHABLE.get(host, host), port)}"


def _bind(host: str, port: int, sockets: list[socket.socket]) -> None:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    # IPv4 first: its address is the one shown.
    for family, kind, protocol, _, address in sorted(dict.fromkeys(found), key=lambda entry: entry[0]):
        shared = sockets[0].getsockname()[1] if sockets else port
        sock = socket.socket(family, kind, protocol)
        sockets.append(sock)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        try:
            sock.bind((address[0], shared, *address[2:]))
        except OSError as error:
            if error.errno != errno.EADDRNOTAVAIL or len(sockets) == 1:
                raise
            sockets.pop().close()  # `localhost` means ::1 as well, even where IPv6 is off.
            continue
        # Now, and not after the application's start: many may bind a port, only one may listen.
        sock.listen(_BACKLOG)
        sock.setblocking(False)


def _place(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
