"""Addresses to listen on: bound by ourselves, so that a taken port is one clear line and port 0 is known at once."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
import ssl
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from streamkit.wire.address import place

__all__ = ["BindError", "Listener", "bound", "reserved", "shown_url"]

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
    #: Path of a Unix socket, to listen there and nowhere else. Who may connect is up to its folder.
    path: str = ""
    #: Told the base address once it is bound, before anything is served.
    on_bound: Callable[[str], None] | None = None
    #: Listening sockets inherited from a supervisor, by file descriptor; then host and port are only shown.
    fds: tuple[int, ...] = ()


@contextlib.contextmanager
def bound(listener: Listener) -> Iterator[list[socket.socket]]:
    """Hold listening sockets for every address of the listener's host, all on one port.

    Raises:
        BindError: the name has no address, or the port is taken or forbidden.
    """
    sockets: list[socket.socket] = []
    try:
        try:
            if listener.path:
                _bind_path(listener.path, sockets)
            elif listener.fds:
                sockets += [socket.socket(fileno=fd) for fd in listener.fds]
            else:
                _bind(listener.host, listener.port, sockets)
        except OSError as error:
            where = listener.path or place(listener.host, listener.port)
            raise BindError(f"cannot listen on {where}: {error.strerror or error}") from None
        yield sockets
    finally:
        for sock in sockets:
            sock.close()
        if listener.path and sockets:
            Path(listener.path).unlink(missing_ok=True)


@contextlib.contextmanager
def reserved(host: str, port: int, count: int) -> Iterator[list[list[socket.socket]]]:
    """Hold `count` sets of listening sockets on one port, among which the kernel spreads connections.

    They belong to a supervisor and are inherited by its workers: a connection that waits in one of them outlives the
    worker that was to accept it (SO_REUSEPORT, socket(7)).

    Raises:
        BindError: as `bound`.
    """
    sets: list[list[socket.socket]] = []
    try:
        try:
            # Alone first: among those that share a port nobody would notice a stranger's share.
            with bound(Listener(app=_nobody, host=host, port=port)) as alone:
                port = alone[0].getsockname()[1]
            for _ in range(count):
                sets.append([])
                _bind(host, port, sets[-1], shared=True)
        except OSError as error:
            raise BindError(f"cannot listen on {place(host, port)}: {error.strerror}") from None
        yield sets
    finally:
        for sock in (sock for sockets in sets for sock in sockets):
            sock.close()


async def _nobody(*_: object) -> None:
    """Stand in for the application behind an address that is only tried."""


def shown_url(listener: Listener, sock: socket.socket) -> str:
    """Return the base address under which `sock` can be reached from this machine."""
    if sock.family == socket.AF_UNIX:
        return f"unix:{sock.getsockname()}"
    host, port = sock.getsockname()[:2]
    scheme = "http" if listener.tls is None else "https"
    return f"{scheme}://{place(_REACHABLE.get(host, host), port)}"


def _bind(host: str, port: int, sockets: list[socket.socket], *, shared: bool = False) -> None:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    # IPv4 first: its address is the one shown.
    for family, kind, protocol, _, address in sorted(dict.fromkeys(found), key=lambda entry: entry[0]):
        same = sockets[0].getsockname()[1] if sockets else port
        sock = socket.socket(family, kind, protocol)
        sockets.append(sock)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        try:
            sock.bind((address[0], same, *address[2:]))
        except OSError as error:
            if error.errno != errno.EADDRNOTAVAIL or len(sockets) == 1:
                raise
            sockets.pop().close()  # `localhost` means ::1 as well, even where IPv6 is off.
            continue
        # Now, and not after the application's start: many may bind a port, only one may listen.
        sock.listen(_BACKLOG)
        sock.setblocking(False)


def _bind_path(path: str, sockets: list[socket.socket]) -> None:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.bind(path)
    except BaseException:
        sock.close()
        raise
    sockets.append(sock)
    sock.listen(_BACKLOG)
    sock.setblocking(False)
