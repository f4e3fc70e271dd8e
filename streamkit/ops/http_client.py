"""HTTP for control calls, probes and the command line: the only module that imports httpx (ADR 0004).

Nothing on the token path comes through here. Every call has a deadline over all of it and a bound on the answer,
and the environment (proxies, netrc) is not looked at.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Final, Self

import httpx
import msgspec

__all__ = ["ByteStream", "Headers", "HttpClient", "HttpError", "Response", "Stream"]

_DEFAULT_LIMIT_BYTES: Final = 4 * 1024 * 1024
Headers = Sequence[tuple[str, str]]


class HttpError(Exception):
    """A call that brought no usable answer.

    Args:
        reason: `connect`, `timeout`, `closed`, `too_large` or `protocol`.
        detail: one line for a person.
    """

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail


@dataclass(frozen=True, slots=True)
class Response:
    """A whole answer."""

    status: int
    body: bytes
    #: Names in lower case.
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Stream:
    """An answer whose body is still coming."""

    status: int
    headers: Mapping[str, str]
    #: The body's lines without their ends; raises `HttpError`.
    lines: AsyncIterator[str]


@dataclass(frozen=True, slots=True)
class ByteStream:
    """An answer whose body is still coming, as it comes."""

    status: int
    headers: Mapping[str, str]
    #: The body's pieces; raises `HttpError`. Bounded by whoever reads.
    pieces: AsyncIterator[bytes]


class HttpClient:
    """A small pool of connections; use it as an async context manager.

    Args:
        max_connections: bound of the pool, idle connections included.
        limit_bytes: largest body that is accepted.
        tls: what to trust for https; None = the system's usual roots.
    """

    def __init__(
        self,
        *,
        max_connections: int = 16,
        limit_bytes: int = _DEFAULT_LIMIT_BYTES,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._limit_bytes = limit_bytes
        self._client = httpx.AsyncClient(
            limits=httpx.Limits(max_connections=max_connections, max_keepalive_connections=max_connections),
            # Only the deadline around each call counts; httpx's own are per read and would be a second rule.
            timeout=None,  # noqa: S113
            trust_env=False,
            follow_redirects=False,
            verify=True if tls is None else tls,
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._client.aclose()

    async def get(self, url: str, *, timeout_ms: int, headers: Headers = ()) -> Response:
        """Return the answer to a GET.

        Raises:
            HttpError: no usable answer within `timeout_ms`.
        """
        return await self._call("GET", url, None, timeout_ms, headers)

    async def post_json(self, url: str, payload: object, *, timeout_ms: int, headers: Headers = ()) -> Response:
        """Return the answer to a POST of `payload`: JSON bytes, or what msgspec can encode.

        Raises:
            HttpError: no usable answer within `timeout_ms`.
        """
        return await self._call("POST", url, payload, timeout_ms, headers)

    @asynccontextmanager
    async def stream_lines(
        self, url: str, payload: object, *, timeout_ms: int, idle_ms: int, headers: Headers = ()
    ) -> AsyncIterator[Stream]:
        """Post `payload`, or get, and read the answer line by line; leaving the block closes the connection.

        Args:
            url: where to.
            payload: as for `post_json`; None = a GET.
            timeout_ms: until the answer's headers.
            idle_ms: longest silence in its body.
            headers: further request headers.

        Raises:
            HttpError: no headers within `timeout_ms`, or the connection broke.
        """
        method = "GET" if payload is None else "POST"
        async with self._opened(method, url, payload, timeout_ms, headers) as response:
            yield Stream(response.status_code, dict(response.headers), self._lines(response, url, idle_ms))

    @asynccontextmanager
    async def stream_bytes(
        self, url: str, payload: object, *, timeout_ms: int, idle_ms: int, headers: Headers = ()
    ) -> AsyncIterator[ByteStream]:
        """Post `payload` and read the answer as it comes; leaving the block closes the connection.

        Args:
            url: where to.
            payload: as for `post_json`.
            timeout_ms: until the answer's headers.
            idle_ms: longest silence in its body.
            headers: further request headers.

        Raises:
            HttpError: no headers within `timeout_ms`, or the connection broke.
        """
        async with self._opened("POST", url, payload, timeout_ms, headers) as response:
            yield ByteStream(response.status_code, dict(response.headers), self._pieces(response, url, idle_ms))

    @asynccontextmanager
    async def _opened(
        self, method: str, url: str, payload: object, timeout_ms: int, headers: Headers
    ) -> AsyncIterator[httpx.Response]:
        """Hold an answer of which the headers have come; what breaks inside the block is the reader's."""
        request = self._request(method, url, payload, headers)
        with _errors_of(url):
            async with _deadline(timeout_ms):
                response = await self._client.send(request, stream=True)
        try:
            yield response
        finally:
            await response.aclose()

    async def _call(self, method: str, url: str, payload: object, timeout_ms: int, headers: Headers) -> Response:
        request = self._request(method, url, payload, headers)
        with _errors_of(url):
            async with _deadline(timeout_ms):
                response = await self._client.send(request, stream=True)
                try:
                    body = bytearray()
                    async for piece in response.aiter_bytes():
                        body += piece
                        if len(body) > self._limit_bytes:
                            raise HttpError("too_large", f"{url}: more than {self._limit_bytes} bytes")
                finally:
                    await response.aclose()
        return Response(response.status_code, bytes(body), dict(response.headers))

    def _request(self, method: str, url: str, payload: object, headers: Headers) -> httpx.Request:
        fields = list(headers)
        content: bytes | None = None
        if method == "POST":
            content = payload if isinstance(payload, bytes) else msgspec.json.encode(payload)
            fields.append(("content-type", "application/json"))
        try:
            return self._client.build_request(method, url, content=content, headers=fields)
        except httpx.InvalidURL as error:
            raise HttpError("protocol", f"{url}: {error}") from error

    async def _pieces(self, response: httpx.Response, url: str, idle_ms: int) -> AsyncIterator[bytes]:
        pieces = response.aiter_bytes()
        with _errors_of(url):
            while True:
                async with _deadline(idle_ms):
                    piece = await anext(pieces, None)
                if piece is None:
                    return
                yield piece

    async def _lines(self, response: httpx.Response, url: str, idle_ms: int) -> AsyncIterator[str]:
        pending = bytearray()
        pieces = response.aiter_bytes()
        with _errors_of(url):
            while True:
                async with _deadline(idle_ms):
                    piece = await anext(pieces, None)
                if piece is None:
                    break
                pending += piece
                if len(pending) > self._limit_bytes:
                    raise HttpError("too_large", f"{url}: a line of more than {self._limit_bytes} bytes")
                *whole, rest = pending.split(b"\n")
                pending = rest
                for line in whole:
                    yield line.rstrip(b"\r").decode("utf-8", "replace")
        if pending:
            yield pending.decode("utf-8", "replace")


def _deadline(milliseconds: int) -> asyncio.Timeout:
    return asyncio.timeout(milliseconds / 1000)


@contextmanager
def _errors_of(url: str) -> Iterator[None]:
    """Turn what httpx raises into `HttpError`."""
    try:
        yield
    except (TimeoutError, httpx.TimeoutException) as error:
        raise HttpError("timeout", f"{url}: no answer in time") from error
    except httpx.ConnectError as error:
        raise HttpError("connect", f"{url}: {_why(error)}") from error
    except (httpx.NetworkError, httpx.RemoteProtocolError) as error:
        raise HttpError("closed", f"{url}: the connection broke") from error
    except (httpx.HTTPError, httpx.StreamError) as error:
        raise HttpError("protocol", f"{url}: {error}") from error


def _why(error: BaseException) -> str:
    """Return what stands behind a failed connection: a certificate, or nothing that a person could act on."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return f"its certificate is not trusted: {cause.verify_message}"
        if isinstance(cause, ssl.SSLError):
            return f"no TLS there, or another kind of it: {cause.reason}"
        cause = cause.__cause__ or cause.__context__
    return "cannot connect"
