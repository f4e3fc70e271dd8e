"""Keep-alive connections to one backend.

Engines close an idle connection after a few seconds (vLLM after 5.00 s, as captured), so ours are given up a little
earlier; one that was closed in the very moment of reuse shows as *stale*, and the retry is free.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import os
import socket
import ssl
from collections.abc import Callable
from time import monotonic
from urllib.parse import urlsplit

import msgspec

from edge.sources.connection import READ_BYTES, Connection

__all__ = ["ConnectError", "Pool", "PoolSettings"]


class ConnectError(Exception):
    """No connection to the engine; the message says why, for clients too, so it holds no address."""


class PoolSettings(msgspec.Struct, frozen=True, kw_only=True):
    """How connections to engines are made and kept."""

    connect_s: float
    idle_s: float
    max_idle: int
    #: `SO_RCVBUF`, set before connect: what the kernel may hold for a paused stream. It doubles the figure.
    rcvbuf_bytes: int


class Pool:
    """Connections to one address.

    Args:
        url: `http://host:port[/prefix]`, or `unix:/path`.
        settings: limits.
        tls: for `https`; the system's authorities when left out.
    """

    def __init__(self, url: str, settings: PoolSettings, tls: ssl.SSLContext | None = None) -> None:
        parts = urlsplit(url)
        self.host = parts.hostname or ""
        self.port = parts.port or (443 if parts.scheme == "https" else 80)
        self.prefix = parts.path.rstrip("/").encode()
        self.authority = parts.netloc.rpartition("@")[2].encode()
        self._path = url.removeprefix("unix:") if parts.scheme == "unix" else ""
        if self._path:
            self.prefix, self.authority = b"", b"localhost"
        self._ssl = (tls or ssl.create_default_context()) if parts.scheme == "https" else None
        self._settings = settings
        self._buffer = memoryview(bytearray(READ_BYTES))
        self._idle: list[Connection] = []
        self._open: set[Connection] = set()
        self._connecting = 0
        self._sweeper: asyncio.TimerHandle | None = None

    @property
    def idle(self) -> int:
        """Connections waiting for work."""
        return len(self._idle)

    @property
    def active(self) -> int:
        """Connections at work or being made."""
        return len(self._open) - len(self._idle) + self._connecting

    def take(self) -> Connection | None:
        """Return an idle connection, the most recently used first, or None."""
        oldest = monotonic() - self._settings.idle_s
        while self._idle:
            connection = self._idle.pop()
            if connection.closing:
                continue
            if connection.idle_since >= oldest:
                return connection
            connection.close()
        return None

    async def connect(self) -> Connection:
        """Return a new connection.

        Raises:
            ConnectError: refused, unreachable, or not there within `connect_s`.
        """
        self._connecting += 1
        try:
            async with asyncio.timeout(self._settings.connect_s):
                return await self._connect()
        except TimeoutError:
            took = f"{self._settings.connect_s * 1000:g} ms"
            raise ConnectError(f"no connection within {took}") from None
        except OSError as exc:
            # The event loops put the address into the text; a client must not learn where engines are.
            reason = os.strerror(exc.errno) if exc.errno and exc.errno > 0 else "its host name is unknown"
            raise ConnectError(reason) from exc
        finally:
            self._connecting -= 1

    def released(self, connection: Connection) -> None:
        """Keep a connection whose exchange is over."""
        if len(self._idle) >= self._settings.max_idle:
            connection.close()
            return
        self._idle.append(connection)
        if self._sweeper is None:
            loop = asyncio.get_running_loop()
            self._sweeper = loop.call_later(self._settings.idle_s, self._sweep)

    def lost(self, connection: Connection) -> None:
        """Forget a closed connection."""
        self._open.discard(connection)
        with contextlib.suppress(ValueError):
            self._idle.remove(connection)

    def close(self) -> None:
        """Close all idle connections; those at work close when their exchange ends."""
        if self._sweeper is not None:
            self._sweeper.cancel()
            self._sweeper = None
        for connection in self._idle:
            connection.close()
        self._idle.clear()

    async def _connect(self) -> Connection:
        loop = asyncio.get_running_loop()
        if self._path:
            _, connection = await loop.create_unix_connection(lambda: Connection(self, self._buffer), self._path)
            self._open.add(connection)
            return connection
        errors: list[OSError] = []
        for family, address in await _resolve(loop, self.host, self.port):
            sock = socket.socket(family, socket.SOCK_STREAM)
            sock.setblocking(False)
            try:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self._settings.rcvbuf_bytes)
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
                await loop.sock_connect(sock, address)
            except OSError as exc:
                sock.close()
                errors.append(exc)
                continue
            except BaseException:
                sock.close()
                raise
            factory: Callable[[], Connection] = lambda: Connection(self, self._buffer)  # noqa: E731
            name = self.host if self._ssl is not None else None
            _, connection = await loop.create_connection(factory, sock=sock, ssl=self._ssl, server_hostname=name)
            self._open.add(connection)
            return connection
        raise errors[-1] if errors else OSError(f"no address for {self.host}")

    def _sweep(self) -> None:
        self._sweeper = None
        oldest = monotonic() - self._settings.idle_s
        keep: list[Connection] = []
        for connection in self._idle:
            if connection.idle_since < oldest or connection.closing:
                connection.close()
            else:
                keep.append(connection)
        self._idle = keep
        if keep:
            wait_s = max(keep[0].idle_since - oldest, 0.05)
            self._sweeper = asyncio.get_running_loop().call_later(wait_s, self._sweep)


async def _resolve(
    loop: asyncio.AbstractEventLoop, host: str, port: int
) -> list[tuple[socket.AddressFamily, tuple[str, int]]]:
    """Return the addresses of a host; a literal address costs no thread."""
    try:
        version = ipaddress.ip_address(host).version
    except ValueError:
        found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        return [(family, (str(address[0]), port)) for family, _, _, _, address in found]
    family = socket.AF_INET if version == 4 else socket.AF_INET6
    return [(family, (host, port))]
