"""HTTP messages: a request read to its end, and the head of an answer."""

from __future__ import annotations

import http
import time
from email.utils import formatdate
from typing import Final, Protocol

__all__ = ["Request", "Work", "head"]

_SERVER: Final = b"headrace-simulator"
_PHRASES: Final = {status.value: status.phrase.encode() for status in http.HTTPStatus}


class Request:
    """One request, read to its end."""

    __slots__ = ("body", "headers", "keep_alive", "method", "old", "path", "query", "request_id")

    def __init__(self, method: str, target: bytes, headers: dict[str, str], *, old: bool, keep_alive: bool) -> None:
        path, _, query = target.decode("latin-1").partition("?")
        self.method = method
        self.path = path
        self.query = query
        self.headers = headers
        self.body = b""
        #: What `x-request-id` of the answer says: the client's own, or a new one where the server makes them.
        self.request_id = headers.get("x-request-id", "")
        #: HTTP/1.0, which knows no chunked framing.
        self.old = old
        self.keep_alive = keep_alive


class Work(Protocol):
    """What runs for a request."""

    def abort(self) -> None:
        """The client is gone."""


def head(status: int) -> bytes:
    """Return the status line and the headers that every answer begins with."""
    phrase = _PHRASES.get(status, b"")
    return b"HTTP/1.1 %d %b\r\ndate: %b\r\nserver: %b\r\n" % (status, phrase, _Date.now(), _SERVER)


class _Date:
    """The `date` header's value, made once a second."""

    second = 0
    value = b""

    @classmethod
    def now(cls) -> bytes:
        second = int(time.time())
        if second != cls.second:
            cls.second, cls.value = second, formatdate(second, usegmt=True).encode()
        return cls.value
