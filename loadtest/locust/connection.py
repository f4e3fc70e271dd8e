"""An event stream read line by line, so that the moment of a token is the moment at which it came.

Locust's own clients read blocks of 1,024 bytes, so a token waits for the ones behind it, and call the time of the
headers the response time of a stream. Here a line is handed on as soon as its end has come.
"""

from __future__ import annotations

import http.client
import socket
import struct
from collections.abc import Iterator, Mapping
from typing import Final
from urllib.parse import urlsplit

__all__ = ["BrokenError", "Connection", "Event"]

_RESET: Final = struct.pack("ii", 1, 0)
_LINE_BYTES: Final = 1024 * 1024

#: Id (empty = none) and data.
Event = tuple[str, bytes]


class BrokenError(Exception):
    """The connection ended before the body did."""


class Connection:
    """One connection to a gateway, kept between requests.

    Args:
        url: base address of the gateway.
        timeout_s: of every read; a stream's heartbeats come more often.
    """

    def __init__(self, url: str, *, timeout_s: float = 60.0) -> None:
        parts = urlsplit(url)
        kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        self._http = kind(parts.hostname or "", parts.port, timeout=timeout_s)
        self._response: http.client.HTTPResponse | None = None
        self.status = 0
        self.headers: Mapping[str, str] = {}

    def connect(self) -> None:
        """Connect, unless it is; then no request pays for it."""
        # http.client switches Nagle's algorithm off by itself.
        if not self._http.sock:
            self._http.connect()

    def ask(self, method: str, path: str, body: bytes = b"", headers: Mapping[str, str] | None = None) -> int:
        """Send a request, read the head of its answer, and return the status.

        Raises:
            BrokenError: there was no answer.
        """
        try:
            self._http.request(method, path, body=body or None, headers=dict(headers or {}))
            self._response = self._http.getresponse()
        except (OSError, http.client.HTTPException) as error:
            self.close()
            raise BrokenError(f"no answer: {error!r}") from error
        self.status = self._response.status
        self.headers = {name.lower(): value for name, value in self._response.getheaders()}
        return self.status

    def events(self) -> Iterator[Event]:
        """Yield each event as its blank line comes; comments are left out.

        Raises:
            BrokenError: the body broke off.
        """
        name = ""
        data: list[bytes] = []
        for line in self._lines():
            if not line:
                if data:
                    yield name, b"\n".join(data)
                data = []
                continue
            field, _, value = line.partition(b":")
            value = value.removeprefix(b" ")
            if field == b"data":
                data.append(value)
            elif field == b"id":
                name = value.decode("utf-8", "replace")

    def rest(self) -> bytes:
        """Read the body to its end.

        Raises:
            BrokenError: it broke off.
        """
        try:
            return self._response.read() if self._response is not None else b""
        except (OSError, http.client.HTTPException) as error:
            self.close()
            raise BrokenError(f"the body broke off: {error!r}") from error

    def drop(self) -> None:
        """End the connection by a reset, as a network that goes away does."""
        if self._http.sock is not None:
            self._http.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self.close()

    def close(self) -> None:
        """End the connection."""
        if self._response is not None:
            self._response.close()
            self._response = None
        self._http.close()

    def _lines(self) -> Iterator[bytes]:
        response = self._response
        if response is None:
            return
        while True:
            try:
                line = response.readline(_LINE_BYTES)
            except (OSError, ValueError, http.client.HTTPException) as error:
                self.close()
                raise BrokenError(f"the body broke off: {error!r}") from error
            if not line:
                return
            yield line.rstrip(b"\r\n")
