"""`POST /v1/client_tokens`: an application's server gets a short-lived, scoped token for one of its pages."""

from __future__ import annotations

import re
from typing import Annotated, Final

import msgspec

from edge.endpoints.access import Access, Caller
from edge.endpoints.parts import Parts
from edge.protocol.cors import ORIGIN
from edge.streams.contracts import Reply
from edge.transports.http import Receive, Scope, read_body
from streamkit.wire.errors import Code, HeadraceError
from streamkit.wire.tokens import Claims, signed
from streamkit.wire.unreadable import UNREADABLE

__all__ = ["PATH", "issue", "serve_client_tokens"]

PATH: Final = "/v1/client_tokens"
_BODY_BYTES: Final = 16 * 1024
_DEFAULT_S: Final = 600
_AT: Final = re.compile(r"^(?P<what>.*?)(?: - at `\$\.?(?P<path>.*)`)?$", re.DOTALL)
_UNKNOWN: Final = re.compile(r"Object contains unknown field `(?P<name>.*)`", re.DOTALL)

_FORMS: Final = {
    "origin": "must be an origin as a browser writes it, like https://app.example",
    "user": "must be at most 128 visible ASCII characters",
}

_Name = Annotated[str, msgspec.Meta(min_length=1, max_length=256)]
_Names = Annotated[tuple[_Name, ...], msgspec.Meta(max_length=64)]


class TokenRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body. A field that is left out or null scopes nothing; a misspelt one is refused, not passed over."""

    expires_in_s: Annotated[int, msgspec.Meta(ge=1)] | None = None
    models: _Names | None = None
    avatars: _Names | None = None
    origin: Annotated[str, msgspec.Meta(pattern=rf"^{ORIGIN}\Z", max_length=256)] | None = None
    max_priority: Annotated[int, msgspec.Meta(ge=1, le=9)] | None = None
    user: Annotated[str, msgspec.Meta(pattern=r"^[\x21-\x7e]{1,128}\Z")] | None = None


class TokenReply(msgspec.Struct, frozen=True, kw_only=True):
    """The answer: the token, and what it allows in fact."""

    token: str
    expires_in_s: int
    #: Seconds since 1970, by this edge's clock.
    expires_at: int
    models: tuple[str, ...] | None
    avatars: tuple[str, ...] | None
    origin: str | None
    max_priority: int
    user: str | None
    object: str = "client_token"


async def serve_client_tokens(parts: Parts, scope: Scope, receive: Receive) -> Reply:
    """Return the answer to one request.

    Raises:
        HeadraceError: UNAUTHORIZED, FORBIDDEN for who is no key, INVALID_REQUEST; what `read_body` raises.
    """
    caller = parts.access.check(scope)
    body = await read_body(scope, receive, limit_bytes=_BODY_BYTES, account=parts.bodies)
    try:
        asked = _parsed(bytes(body))
    finally:
        parts.bodies.release(len(body))
    return issue(parts.access, caller, asked, longest_s=parts.client_token_s)


def issue(access: Access, caller: Caller, asked: TokenRequest, *, longest_s: int) -> Reply:
    """Return a token for what is asked, if the caller may give it.

    Raises:
        HeadraceError: UNAUTHORIZED without a key, FORBIDDEN with a token; INVALID_REQUEST, NO_ROUTE.
    """
    if caller.claims is not None:
        raise HeadraceError(Code.FORBIDDEN, "A client token makes no others: ask with the key of your server.")
    if not caller.key_id:
        text = "No keys are in use here, so there is nothing to scope; headrace keys create makes the first one."
        raise HeadraceError(Code.UNAUTHORIZED, text)
    lifetime_s = min(_DEFAULT_S, longest_s) if asked.expires_in_s is None else asked.expires_in_s
    if lifetime_s > longest_s:
        text = f"`expires_in_s` is {lifetime_s}; the limit is client_token_max_ms = {longest_s} s."
        raise HeadraceError(Code.INVALID_REQUEST, text, param="expires_in_s")
    if not access.signing_secret:
        text = "The control plane has handed out nothing to sign tokens with. Try again shortly."
        raise HeadraceError(Code.NO_ROUTE, text)
    claims = Claims(
        key=caller.key_id,
        expires_at=int(access.now()) + lifetime_s,
        models=asked.models,
        avatars=asked.avatars,
        origin=asked.origin or "",
        max_priority=max(asked.max_priority or 1, caller.tenant.max_priority),
        user=asked.user or "",
    )
    try:
        token = signed(claims, access.signing_secret)
    except ValueError as error:
        raise HeadraceError(Code.INVALID_REQUEST, f"Too many names: {error}.", param="models") from None
    made = TokenReply(
        token=token,
        expires_in_s=lifetime_s,
        expires_at=claims.expires_at,
        models=claims.models,
        avatars=claims.avatars,
        origin=claims.origin or None,
        max_priority=claims.max_priority,
        user=claims.user or None,
    )
    return Reply(status=200, body=msgspec.json.encode(made), headers=((b"cache-control", b"no-store"),))


def _parsed(body: bytes) -> TokenRequest:
    try:
        return msgspec.json.decode(body.strip() or b"{}", type=TokenRequest)
    except msgspec.ValidationError as error:
        match = _AT.match(str(error))
        what, path = (match["what"], match["path"] or "") if match else (str(error), "")
        if unknown := _UNKNOWN.fullmatch(what):
            known = ", ".join(TokenRequest.__struct_fields__)
            path, what = unknown["name"][:100], f"there is no such field; known are {known}"
        if "matching regex" in what:
            what = _FORMS[path]
        text = f"`{path}`: {what}." if path else f"The body must be a JSON object: {what}."
        raise HeadraceError(Code.INVALID_REQUEST, text, param=path or "body") from None
    except UNREADABLE as error:
        raise HeadraceError(Code.INVALID_REQUEST, f"The body is not valid JSON: {error}.", param="body") from None
