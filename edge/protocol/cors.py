"""Which web pages of other origins may read answers (the Fetch standard's CORS protocol; docs/behavior.md).

Nothing here uses cookies: a page shows its key or token itself, so credentials are never allowed and an answer to one
page is an answer to anybody who has the same token. Headers are worked out once for each request; no byte of a body
passes here.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

__all__ = ["ORIGIN", "Cors"]

Header = tuple[bytes, bytes]

#: How a browser writes an origin: scheme, host in lower case, port where it is not the scheme's own (RFC 6454 §6.2).
ORIGIN: Final = r"[a-z][a-z0-9+.-]*://(?:[a-z0-9_.-]+|\[[0-9a-f:.]+\])(?::[0-9]{1,5})?"

#: What a page may read beside what the standard always lets it.
_EXPOSED: Final = (
    b"X-Request-Id, X-Headrace-Stream, X-Headrace-Backend, X-Headrace-Model, "
    b"X-Headrace-Simulated, X-Headrace-Reason, "
    b"Retry-After, Retry-After-Ms, X-Should-Retry, "
    b"X-RateLimit-Limit-Requests, X-RateLimit-Remaining-Requests, X-RateLimit-Reset-Requests, "
    b"X-RateLimit-Limit-Tokens, X-RateLimit-Remaining-Tokens, X-RateLimit-Reset-Tokens, "
    b"Location, ETag, Link"
)
_METHODS: Final = b"GET, HEAD, POST, PATCH, DELETE"
#: Asked for by pages of ours, where a browser does not say what it wants.
_HEADERS: Final = b"authorization, content-type, last-event-id, x-request-id"
#: Names as browsers list them. SDKs add their own (`x-stainless-*`), so they are repeated and not chosen from a list.
_ASKED: Final = re.compile(rb"[a-z0-9!#$%&'*+.^_`|~-]+(?: ?, ?[a-z0-9!#$%&'*+.^_`|~-]+)*", re.IGNORECASE)
_ASKED_BYTES: Final = 2048
_MAX_AGE_S: Final = b"600"
_VARY: Final = (b"vary", b"Origin")
_VARY_PREFLIGHT: Final = (b"vary", b"Access-Control-Request-Headers")


class Cors:
    """The rule of one edge.

    Args:
        origins: that may read answers, as browsers write them; `*` is all of them; none = no page of another origin.
    """

    def __init__(self, origins: Iterable[str] = ()) -> None:
        self._origins = frozenset(origin.encode() for origin in origins)
        self._everybody = b"*" in self._origins

    def allows(self, origin: bytes) -> bool:
        """Say whether pages of `origin` may read answers."""
        return self._everybody or origin in self._origins

    def headers(self, asked: Iterable[Header]) -> tuple[Header, ...]:
        """Return what every answer to a request with the headers `asked` carries."""
        if not self._origins:
            return ()
        if self._everybody:
            return ((b"access-control-allow-origin", b"*"), (b"access-control-expose-headers", _EXPOSED))
        origin = next((value for name, value in asked if name == b"origin"), b"")
        if origin not in self._origins:
            # Said to everybody: a cache must not give this answer to a page that is allowed.
            return (_VARY,)
        return (_VARY, (b"access-control-allow-origin", origin), (b"access-control-expose-headers", _EXPOSED))

    def preflight(self, asked_headers: bytes) -> tuple[Header, ...]:
        """Return what the answer to an allowed preflight carries beside `headers`.

        Args:
            asked_headers: `Access-Control-Request-Headers`.
        """
        plain = len(asked_headers) <= _ASKED_BYTES and _ASKED.fullmatch(asked_headers) is not None
        return (
            (b"access-control-allow-methods", _METHODS),
            (b"access-control-allow-headers", asked_headers if plain else _HEADERS),
            (b"access-control-max-age", _MAX_AGE_S),
            _VARY_PREFLIGHT,
        )
