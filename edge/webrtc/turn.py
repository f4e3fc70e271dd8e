"""Short-lived credentials for TURN servers, by a secret that they share with us (draft-uberti-behave-turn-rest)."""

from __future__ import annotations

import base64
import hashlib
import hmac
import time
from collections.abc import Callable, Iterable
from typing import Final

__all__ = ["IceServers"]

#: The scheme names no other digest.
_DIGEST: Final = hashlib.sha1


class IceServers:
    """The servers that help viewers through firewalls.

    Args:
        urls: `stun:…` and `turn:…` addresses.
        secret: coturn's `static-auth-secret`; empty = TURN without credentials.
        ttl_s: life of credentials.
        now: seconds since 1970; TURN servers compare it with theirs.
    """

    def __init__(self, urls: Iterable[str], secret: str, ttl_s: int, *, now: Callable[[], float] = time.time) -> None:
        self.urls = tuple(urls)
        self._secret = secret.encode()
        self._ttl_s = ttl_s
        self._now = now

    def credentials(self, user: str) -> tuple[str, str]:
        """Return username and password for one viewer.

        Args:
            user: shown in the TURN server's log; a name of ours, never a key.
        """
        name = f"{int(self._now()) + self._ttl_s}:{user}"
        digest = hmac.new(self._secret, name.encode(), _DIGEST).digest()
        return name, base64.b64encode(digest).decode()

    def links(self, user: str) -> list[bytes]:
        """Return `Link` values as WHIP has them (RFC 9725 §4.6)."""
        found = []
        for url in self.urls:
            link = f'<{url}>; rel="ice-server"'
            if url.startswith("turn") and self._secret:
                name, password = self.credentials(user)
                link += f'; username="{name}"; credential="{password}"; credential-type="password"'
            found.append(link.encode())
        return found
