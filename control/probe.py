"""Asking one engine how it is and what it serves. Each engine has its own questions; the answer is one `Finding`."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, Protocol
from urllib.parse import urlsplit

import msgspec

from control.health import Finding
from streamkit.ops.http_client import HttpError, Response
from streamkit.wire.backend import Backend, Engine
from streamkit.wire.unreadable import UNREADABLE

__all__ = ["Getter", "probe"]

_REASON_CHARS: Final = 120


class Getter(Protocol):
    """The part of `streamkit.ops.http_client.HttpClient` that probes need."""

    async def get(self, url: str, *, timeout_ms: int, headers: Sequence[tuple[str, str]] = ()) -> Response:
        """Return the answer to a GET, or raise `HttpError`."""
        ...


class _Card(msgspec.Struct, frozen=True):
    id: str


class _Cards(msgspec.Struct, frozen=True):
    """`GET /v1/models` of OpenAI."""

    data: tuple[_Card, ...]


class _Tag(msgspec.Struct, frozen=True):
    name: str


class _Tags(msgspec.Struct, frozen=True):
    """`GET /api/tags` of Ollama."""

    models: tuple[_Tag, ...] | None = None


class _Unwell(Exception):  # noqa: N818 - never leaves this module
    """The engine answered, and not well; the text is for a person."""


class _Asker:
    """One probe's way to its engine: address, key and deadline."""

    def __init__(self, client: Getter, backend: Backend, api_key: str, timeout_ms: int) -> None:
        self.backend = backend
        self.timeout_ms = timeout_ms
        self.api_key = api_key
        self._client = client
        self._headers = [("authorization", f"Bearer {api_key}")] if api_key else []

    async def ask(self, path: str) -> Response:
        url = self.backend.url.rstrip("/") + path
        return await self._client.get(url, timeout_ms=self.timeout_ms, headers=self._headers)

    async def well(self, path: str) -> bytes:
        """Return the body of a 200; anything else is a failed probe."""
        answer = await self.ask(path)
        if answer.status != 200:
            raise _Unwell(_why(path, answer))
        return answer.body


async def probe(client: Getter, backend: Backend, *, api_key: str = "", timeout_ms: int) -> Finding:
    """Ask `backend` how it is; every way to fail is a finding, not an exception.

    Args:
        client: makes the calls.
        backend: whom to ask.
        api_key: sent as a bearer token, if there is one.
        timeout_ms: for each call.
    """
    asker = _Asker(client, backend, api_key, timeout_ms)
    try:
        return await _QUESTIONS[backend.engine](asker)
    except HttpError as error:
        return Finding(ok=False, detail=_SHORT.get(error.reason, error.reason), timed_out=error.reason == "timeout")
    except _Unwell as error:
        return Finding(ok=False, detail=str(error))
    except UNREADABLE as error:
        return Finding(ok=False, detail=_cut(f"its answer is not what a {backend.engine} engine says: {error}"))


_SHORT: Final = {
    "connect": "cannot connect",
    "timeout": "no answer in time",
    "closed": "closed the connection",
    "too_large": "its answer is too large",
    "protocol": "does not speak HTTP",
}


async def _vllm(asker: _Asker) -> Finding:
    """`/health` fails when the engine core has died; it stays 200 while draining, asleep or frozen."""
    await asker.well("/health")
    return await _cards(asker, needed=not asker.backend.models)


async def _openai(asker: _Asker) -> Finding:
    """llama-server lists its models while it loads them, and tells so by a 503 on `/health` only.

    `transformers serve` is the other way round: `/health` is 200 while `/v1/models` may be a 500. An engine that
    has no `/health` is judged by its list alone.
    """
    health = await asker.ask("/health")
    if health.status >= 500:
        raise _Unwell(_why("/health", health))
    return await _cards(asker, needed=health.status != 200 or not asker.backend.models)


async def _cards(asker: _Asker, *, needed: bool) -> Finding:
    """Read `/v1/models`; unless it is needed, a bad answer to it is odd but no failure."""
    answer = await asker.ask("/v1/models")
    if answer.status in (401, 403) or (needed and answer.status != 200):
        raise _Unwell(_why("/v1/models", answer))
    if answer.status != 200:
        return Finding(ok=True, detail=_why("/v1/models", answer))
    return _listed(asker.backend, tuple(card.id for card in msgspec.json.decode(answer.body, type=_Cards).data))


async def _ollama(asker: _Asker) -> Finding:
    await asker.well("/api/version")
    tags = msgspec.json.decode(await asker.well("/api/tags"), type=_Tags)
    return _listed(asker.backend, tuple(tag.name for tag in tags.models or ()))


async def _tfserving(asker: _Asker) -> Finding:
    """TensorFlow Serving lists no models; it is up while it serves one of those configured, and serves no others."""
    if not asker.backend.models:
        raise _Unwell("TensorFlow Serving does not list its models: name them in `models`")
    from control.tf_status import ask_states  # noqa: PLC0415  loads grpc

    return await ask_states(asker.backend, api_key=asker.api_key, timeout_ms=asker.timeout_ms)


async def _inference(asker: _Asker) -> Finding:
    """Nothing but a TCP connection: its port speaks gRPC only."""
    parts = urlsplit(asker.backend.url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    try:
        async with asyncio.timeout(asker.timeout_ms / 1000):
            _, writer = await asyncio.open_connection(parts.hostname, port)
    except TimeoutError:
        return Finding(ok=False, detail=_SHORT["timeout"], timed_out=True)
    except (OSError, socket.gaierror):
        return Finding(ok=False, detail=_SHORT["connect"])
    writer.transport.abort()
    return Finding(ok=True)


_QUESTIONS: Final[dict[Engine, Callable[[_Asker], Awaitable[Finding]]]] = {
    "vllm": _vllm,
    "openai": _openai,
    "ollama": _ollama,
    "tfserving": _tfserving,
    "inference": _inference,
}


def _listed(backend: Backend, models: tuple[str, ...]) -> Finding:
    """Return a good finding; configured models stand, whatever the engine lists (llama-server takes any name)."""
    missing = [name for name in backend.models if name not in models and f"{name}:latest" not in models]
    detail = f"configured, but not listed by the engine: {', '.join(missing)}" if missing else ""
    return Finding(ok=True, models=None if backend.models else models, detail=_cut(detail))


def _why(path: str, answer: Response) -> str:
    """Return a bad answer in a few words: the status, and what the engine's own error says."""
    if answer.status in (401, 403):
        return f"{path} says {answer.status}: the engine wants another key, see `api_key_env`"
    said = _message(answer.body)
    return _cut(f"{path} says {answer.status}{': ' if said else ''}{said}")


def _message(body: bytes) -> str:
    """Return the message inside an engine's error body: `{"error": {"message"}}`, `{"error"}` or `{"detail"}`."""
    try:
        content = msgspec.json.decode(body)
    except UNREADABLE:
        return ""
    if not isinstance(content, dict):
        return ""
    said = content.get("error", content.get("detail", ""))
    if isinstance(said, dict):
        said = said.get("message", "")
    return said if isinstance(said, str) else ""


def _cut(text: str) -> str:
    return text if len(text) <= _REASON_CHARS else text[: _REASON_CHARS - 1] + "…"
