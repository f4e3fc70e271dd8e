"""A gRPC server as a service's front; only services that speak gRPC import this module."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import grpc
from grpc import aio

from streamkit.ops.exposure import is_loopback
from streamkit.ops.lifecycle import Lifecycle
from streamkit.ops.listener import BindError
from streamkit.ops.settings import SettingsError
from streamkit.wire.address import place

__all__ = ["GrpcFront", "Tls"]

#: A connection that says nothing for so long is asked whether it is still there.
_KEEPALIVE_MS: Final = 20_000


@dataclass(frozen=True, slots=True)
class Tls:
    """Mutual TLS from PEM files.

    Args:
        cert: the server's certificate chain.
        key: its key.
        client_ca: the authority whose clients are let in.
    """

    cert: bytes
    key: bytes
    client_ca: bytes

    @classmethod
    def from_files(cls, host: str, cert: str, key: str, client_ca: str) -> Tls | None:
        """Return what the three files hold; None where none is named, which only a loopback address may do.

        Raises:
            SettingsError: a file is missing or unreadable, or the address needs them.
        """
        named = {"tls_cert_file": cert, "tls_key_file": key, "tls_client_ca_file": client_ca}
        missing = [name for name, path in named.items() if not path]
        if len(missing) == len(named):
            if not is_loopback(host):
                raise SettingsError(
                    f"host: {host} is reached by others, so it needs mutual TLS: set {', '.join(named)},"
                    " or listen on 127.0.0.1"
                )
            return None
        if missing:
            raise SettingsError(f"{missing[0]}: required beside {', '.join(sorted(named.keys() - set(missing)))}")
        found: list[bytes] = []
        for name, path in named.items():
            try:
                found.append(Path(path).read_bytes())
            except OSError as error:
                raise SettingsError(f"{name}: {path}: cannot be read: {error.strerror}") from None
        return cls(*found)

    def credentials(self) -> grpc.ServerCredentials:
        """Return what gRPC wants; clients must show a certificate."""
        return grpc.ssl_server_credentials([(self.key, self.cert)], self.client_ca, require_client_auth=True)


class GrpcFront:
    """One address and the gRPC services behind it.

    Args:
        add: puts the services on the server.
        lifecycle: the process's.
        host: address to listen on.
        port: 0 = a free one.
        tls: None = in the clear.
        max_calls: calls at a time, streams included; more are refused with RESOURCE_EXHAUSTED.
        max_message_bytes: largest message that is taken.
        on_start: awaited before the first call is taken.
        on_stop: awaited when the last call is over.
        options: further channel arguments of gRPC.
    """

    def __init__(
        self,
        add: Callable[[aio.Server], None],
        lifecycle: Lifecycle,
        *,
        host: str,
        port: int,
        tls: Tls | None,
        max_calls: int,
        max_message_bytes: int,
        on_start: Callable[[], Awaitable[None]] | None = None,
        on_stop: Callable[[], Awaitable[None]] | None = None,
        options: Sequence[tuple[str, int]] = (),
    ) -> None:
        self.url = ""
        self._add = add
        self._lifecycle = lifecycle
        self._host, self._port, self._tls = host, port, tls
        self._max_calls = max_calls
        self._on_start, self._on_stop = on_start, on_stop
        self._options = [
            # Two processes on one port would share its clients.
            ("grpc.so_reuseport", 0),
            ("grpc.max_receive_message_length", max_message_bytes),
            ("grpc.keepalive_time_ms", _KEEPALIVE_MS),
            ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
            *options,
        ]
        self._server: aio.Server | None = None
        self._ended: asyncio.Task[bool] | None = None

    def bind(self) -> None:
        """Take the address.

        Raises:
            BindError: it is taken or cannot be used.
        """
        server = aio.server(options=self._options, maximum_concurrent_rpcs=self._max_calls)
        self._add(server)
        wanted = place(self._host, self._port)
        try:
            if self._tls is None:
                port = server.add_insecure_port(wanted)
            else:
                port = server.add_secure_port(wanted, self._tls.credentials())
        except RuntimeError:
            raise BindError(f"cannot listen on {wanted}: the address is taken or not ours") from None
        self._server = server
        self.url = f"{'grpc' if self._tls is None else 'grpcs'}://{place(self._host, port)}"

    async def start(self) -> bool:
        """Start to answer."""
        if self._server is None:
            raise RuntimeError("bind comes before start")
        if self._on_start is not None:
            await self._on_start()
        await self._server.start()
        self._ended = asyncio.create_task(self._server.wait_for_termination(), name=f"serve {self.url}")
        return True

    async def ended(self) -> None:
        """Return when the server ended by itself."""
        if self._ended is not None:
            # grpc.aio takes a cancelled wait for the end of the server itself.
            await asyncio.shield(self._ended)

    async def stop(self, idle: Callable[[], Awaitable[None]]) -> None:
        """Stop accepting, let calls finish until the deadline, cut the rest."""
        if self._server is not None:
            cut = asyncio.create_task(self._cut(self._server), name="cut")
            grace_s = 0.0 if self._lifecycle.forced else self._lifecycle.drain_ms / 1000
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(grace_s):
                    await idle()
            await self._server.stop(grace_s)
            cut.cancel()
            await asyncio.gather(cut, *filter(None, [self._ended]), return_exceptions=True)
            self._server = None
        if self._on_stop is not None:
            await self._on_stop()

    async def _cut(self, server: aio.Server) -> None:
        """Take a second signal: calls under way are cut."""
        await self._lifecycle.force_begun()
        await server.stop(0)
