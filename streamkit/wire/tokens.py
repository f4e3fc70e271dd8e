"""Client tokens: what a web page may hold in the place of a key. Signed by one edge, read by any, asked of nobody.

    hrt-<claims, JSON in base64url>.<HMAC-SHA256 of what stands before the dot, base64url>

The secret is control's, of the name `CLIENT_TOKENS`, and comes with the key snapshot. Claims are readable by whoever
holds the token. Times are the wall clock's, in whole seconds since 1970, because they are compared on other machines.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from typing import Final

import msgspec

from streamkit.wire.unreadable import UNREADABLE

__all__ = ["MAX_TOKEN_CHARS", "PREFIX", "Claims", "signed", "verified"]

PREFIX: Final = "hrt-"
#: It must fit into a WebSocket's URL, which proxies bound at 4 to 8 KiB.
MAX_TOKEN_CHARS: Final = 3_072
#: The secret signs nothing else under these words.
_PURPOSE: Final = b"headrace client token 1\0"


class Claims(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a token allows, all of it within what its parent key may do."""

    #: Id of the key that it was made with; the token dies with it.
    key: str
    expires_at: int
    #: None = every model, and likewise for avatars; empty = none.
    models: tuple[str, ...] | None = None
    avatars: tuple[str, ...] | None = None
    #: The only origin whose pages may use it; empty = whoever holds it.
    origin: str = ""
    #: The highest priority that it may claim (1 = highest).
    max_priority: int = 1
    #: The application's own name for its user: a stream is resumed by the same one only.
    user: str = ""


def signed(claims: Claims, secret: bytes) -> str:
    """Return the token of `claims`.

    Raises:
        ValueError: it would have more than `MAX_TOKEN_CHARS`.
    """
    payload = _text(msgspec.json.encode(claims))
    token = f"{PREFIX}{payload}.{_text(_mac(payload, secret))}"
    if len(token) > MAX_TOKEN_CHARS:
        raise ValueError(f"the token would have {len(token)} characters; the limit is {MAX_TOKEN_CHARS}")
    return token


def verified(token: str, secret: bytes) -> Claims | None:
    """Return the claims of a token that `secret` signed, expired or not; None for anything else."""
    if not token.startswith(PREFIX) or len(token) > MAX_TOKEN_CHARS or not token.isascii() or not secret:
        return None
    payload, _, shown = token.removeprefix(PREFIX).partition(".")
    # As text, so that no second spelling of the same bytes is taken.
    if not hmac.compare_digest(_text(_mac(payload, secret)), shown):
        return None
    try:
        return msgspec.json.decode(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)), type=Claims)
    except (binascii.Error, *UNREADABLE):
        return None


def _mac(payload: str, secret: bytes) -> bytes:
    return hmac.digest(secret, _PURPOSE + payload.encode(), hashlib.sha256)


def _text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
