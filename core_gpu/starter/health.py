"""Whether an engine answers: 200 at an HTTP address, or an accepted connection."""

from __future__ import annotations

import http.client
import socket
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

__all__ = ["Health", "parsed_health"]

_TIMEOUT_S: Final = 1.0


@dataclass(frozen=True, slots=True)
class Health:
    """An address to ask; `path` None = a connection is enough."""

    host: str
    port: int
    path: str | None

    def answers(self) -> bool:
        """Ask once, for a second at most."""
        try:
            if self.path is None:
                socket.create_connection((self.host, self.port), _TIMEOUT_S).close()
                return True
            connection = http.client.HTTPConnection(self.host, self.port, timeout=_TIMEOUT_S)
            try:
                connection.request("GET", self.path)
                return connection.getresponse().status == http.client.OK
            finally:
                connection.close()
        except (OSError, http.client.HTTPException):
            # Not yet: it is starting.
            return False


def parsed_health(text: str) -> Health:
    """Read `http://127.0.0.1:8000/health` or `tcp://127.0.0.1:8500`.

    Raises:
        ValueError: it is neither.
    """
    parts = urlsplit(text)
    if parts.scheme not in ("http", "tcp") or not parts.hostname:
        raise ValueError(f"expected http://HOST:PORT/PATH or tcp://HOST:PORT, got {text[:80]!r}")
    port = parts.port or (80 if parts.scheme == "http" else 0)
    if not port:
        raise ValueError(f"expected a port from 1 to 65535, got {text[:80]!r}")
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return Health(parts.hostname, port, path if parts.scheme == "http" else None)
