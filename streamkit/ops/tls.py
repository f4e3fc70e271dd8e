"""TLS for a listener, from files that may change while it serves.

Every handshake gets the newest certificate whole, by swapping the context inside it: a context that is in use is
never changed, so a half-written file harms nobody. Sessions are not resumed, so that every connection is judged by
the files as they are.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NoReturn

import uvicorn

from streamkit.ops import log
from streamkit.ops.settings import SettingsError

__all__ = ["ServerTls", "TlsFiles", "accepting", "trusting"]

_LOG = logging.getLogger(__name__)
_WATCH_S: Final = 2.0
#: asyncio's own is a minute, long for somebody who only holds a connection.
_HANDSHAKE_S: Final = 10.0

_Stamps = tuple[tuple[int, int, int] | None, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsFiles:
    """PEM files.

    Raises:
        SettingsError: some are named, and others that they need are not.
    """

    cert: str = ""
    key: str = ""
    #: Demand a certificate of these authorities from every client.
    client_ca: str = ""

    def __post_init__(self) -> None:
        if bool(self.cert) != bool(self.key):
            missing, there = ("tls_key", "tls_cert") if self.cert else ("tls_cert", "tls_key")
            raise SettingsError(f"{missing}: is needed where {there} is set")
        if self.client_ca and not self.cert:
            raise SettingsError("tls_cert: is needed where tls_client_ca is set")

    @property
    def named(self) -> bool:
        """Whether TLS is asked for."""
        return bool(self.cert)


class ServerTls:
    """The context of a listener, and what keeps it fresh.

    Args:
        files: named ones.

    Raises:
        SettingsError: a file cannot be used.
    """

    def __init__(self, files: TlsFiles) -> None:
        self._files = files
        self._seen = self._stamps()
        self._newest = _loaded(files)
        #: For the listener.
        self.context = _loaded(files)
        self.context.sni_callback = self._choose

    def refresh(self) -> bool:
        """Read the files again if one of them has changed; return whether there is a new certificate.

        Raises:
            SettingsError: a file cannot be used; what was read before stays in force.
        """
        stamps = self._stamps()
        if stamps == self._seen:
            return False
        self._seen = stamps
        self._newest = _loaded(self._files)
        return True

    async def watch(self, every_s: float = _WATCH_S) -> None:
        """Look at the files for ever."""
        while True:
            await asyncio.sleep(every_s)
            try:
                if self.refresh():
                    log.event(_LOG, "tls.renewed", cert=self._files.cert)
            except SettingsError as error:
                log.event(_LOG, "tls.unusable", level=logging.ERROR, detail=str(error))

    def _choose(self, connection: ssl.SSLObject, _name: str | None, _context: ssl.SSLContext) -> None:
        connection.context = self._newest

    def _stamps(self) -> _Stamps:
        return tuple(_stamp(path) for path in (self._files.cert, self._files.key, self._files.client_ca) if path)


def trusting(path: str, key: str, *, named: bool = True) -> ssl.SSLContext:
    """Return the context of a client that trusts the certificates of a file, and nothing else.

    Args:
        path: PEM file; authorities, or the very certificate that the server shows.
        key: the setting that names the file.
        named: demand that the certificate has the server's name in it.

    Raises:
        SettingsError: the file cannot be used.
    """
    _readable(key, path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    # A certificate that is trusted by itself needs no authority above it.
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    context.check_hostname = named
    try:
        context.load_verify_locations(path)
    except ssl.SSLError as error:
        raise SettingsError(f"{key}: {path}: no PEM certificates ({error.reason})") from None
    return context


async def accepting(
    context: ssl.SSLContext, sockets: Iterable[socket.socket], server: uvicorn.Server
) -> list[asyncio.base_events.Server]:
    """Accept TLS connections on every socket, as `server` would, but with a deadline of our own for the handshake."""
    config, loop = server.config, asyncio.get_running_loop()

    def protocol() -> asyncio.Protocol:
        made: asyncio.Protocol = config.http_protocol_class(
            config=config, server_state=server.server_state, app_state=server.lifespan.state
        )  # type: ignore[call-arg]
        return made

    return [
        await loop.create_server(
            protocol, sock=sock, ssl=context, backlog=config.backlog, ssl_handshake_timeout=_HANDSHAKE_S
        )
        for sock in sockets
    ]


def _stamp(path: str) -> tuple[int, int, int] | None:
    try:
        found = Path(path).stat()
    except OSError:
        return None
    return (found.st_mtime_ns, found.st_ino, found.st_size)


def _loaded(files: TlsFiles) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    # A client that would rather speak HTTP/2 is told at once.
    context.set_alpn_protocols(["http/1.1"])
    context.options |= ssl.OP_NO_TICKET | ssl.OP_NO_RENEGOTIATION
    context.num_tickets = 0
    for key, path in (("tls_cert", files.cert), ("tls_key", files.key), ("tls_client_ca", files.client_ca)):
        if path:
            _readable(key, path)
    try:
        context.load_cert_chain(files.cert, files.key, password=_no_password)
    except ssl.SSLError as error:
        what = "does not belong to the certificate" if error.reason == "KEY_VALUES_MISMATCH" else "no PEM pair"
        detail = error.reason or str(error)
        raise SettingsError(f"tls_cert, tls_key: {files.cert}, {files.key}: {what} ({detail})") from None
    if files.client_ca:
        try:
            context.load_verify_locations(files.client_ca)
        except ssl.SSLError as error:
            raise SettingsError(f"tls_client_ca: {files.client_ca}: no PEM certificates ({error.reason})") from None
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def _readable(key: str, path: str) -> None:
    try:
        with open(path, "rb"):  # noqa: PTH123
            pass
    except OSError as error:
        raise SettingsError(f"{key}: {path}: cannot be read: {error.strerror}") from None


def _no_password() -> NoReturn:
    raise SettingsError("tls_key: is encrypted, and nobody is here to type a passphrase; store it without one")
