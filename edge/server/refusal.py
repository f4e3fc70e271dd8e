"""Answers that the server gives in the application's place: OpenAI envelopes that end the connection."""

from __future__ import annotations

from collections.abc import Iterable

import httptools
from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from streamkit.wire.errors import Code, HeadraceError
from streamkit.wire.ids import request_id, valid_request_id

__all__ = ["Headers", "name_of", "refusal_headers", "refusal_of", "unreadable", "written"]

Headers = Iterable[tuple[bytes, bytes]]


def name_of(headers: Headers) -> bytes:
    """Return a request's id: the client's `X-Request-Id` if it may be echoed, else a new one."""
    asked = next((value for name, value in headers if name == b"x-request-id"), b"")
    return asked if valid_request_id(asked.decode("latin-1")) else request_id().encode()


def refusal_headers(error: HeadraceError, body: bytes, name: bytes = b"") -> list[tuple[bytes, bytes]]:
    """Return the headers of a refusal.

    Args:
        error: what it says.
        body: its envelope.
        name: the request's id; empty where no request was understood.
    """
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body)), *error.headers()]
    if name:
        headers.append((b"x-request-id", name))
    headers.append((b"connection", b"close"))
    return headers


def written(error: HeadraceError, defaults: Headers, name: bytes = b"") -> bytes:
    """Return a whole refusal as it goes over the wire; `defaults` are the server's own headers."""
    body = error.envelope()
    lines = b"".join(b"%b: %b\r\n" % header for header in (*defaults, *refusal_headers(error, body, name)))
    return STATUS_LINE[error.wire.status] + lines + b"\r\n" + body


def refusal_of(cause: BaseException | None) -> HeadraceError:
    """Return what to answer for an exception that came out of a parser callback.

    Raises:
        RuntimeError: it is a bug of ours.
    """
    if isinstance(cause, HeadraceError):
        return cause
    if isinstance(cause, httptools.HttpParserError | UnicodeError):
        return HeadraceError(Code.INVALID_REQUEST, f"The request's target cannot be read: {cause}.")
    raise RuntimeError("a parser callback failed") from cause


def unreadable(data: bytes, reason: Exception) -> HeadraceError:
    """Return what to answer for bytes that are no HTTP."""
    text = f"This is no valid HTTP/1.1: {reason}."
    if data.startswith(b"\x16\x03"):
        text = "This port speaks plain HTTP, and this is a TLS handshake; use http:// in the address."
    return HeadraceError(Code.INVALID_REQUEST, text)
