"""Whether the engines answer this machine, what they serve, how old they are, and how far their clocks are off."""

from __future__ import annotations

import asyncio
import os
import re
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec

from launch.doctor.finding import Finding, bad, good, warning
from streamkit.ops.http_client import HttpClient, HttpError, Response
from streamkit.wire.backend import Backend
from streamkit.wire.unreadable import UNREADABLE

__all__ = ["engine", "reached", "skew_s"]

_ASK_MS: Final = 3_000
#: From here on `--max-num-queued-reqs` bounds vLLM's queue (docs/operations/mode-a.md).
_BOUNDED_VLLM: Final = (0, 29)
_VERSION: Final = re.compile(r"(\d+)\.(\d+)")
#: What client tokens tolerate, and half of it.
_SKEW_FAIL_S: Final = 30.0
_SKEW_WARN_S: Final = 5.0


async def engine(http: HttpClient, backend: Backend, environment: Mapping[str, str] = os.environ) -> list[Finding]:
    """Judge one backend, as control and the edge will ask it."""
    check = f"engine.{backend.name}"
    if backend.url.startswith("grpc"):
        return [await reached(check, backend.url, f"is {backend.engine} running there?")]
    key = environment.get(backend.api_key_env, "") if backend.api_key_env else ""
    if backend.api_key_env and not key:
        return [bad(check, f"the environment has no {backend.api_key_env}", "set it: control would not start")]
    headers = (("authorization", f"Bearer {key}"),) if key else ()
    begun = time.monotonic()
    try:
        answer = await http.get(f"{backend.url.rstrip('/')}/v1/models", timeout_ms=_ASK_MS, headers=headers)
    except HttpError as error:
        do = "is it running, and does it listen on an address that this machine reaches (--host, OLLAMA_HOST)?"
        return [bad(check, error.detail, do)]
    took_ms = (time.monotonic() - begun) * 1000
    if answer.status in (401, 403):
        do = (
            "name the variable with its key in api_key_env"
            if not key
            else f"put the right key into {backend.api_key_env}"
        )
        return [bad(check, f"{backend.url} answers {answer.status}: it wants another key", do)]
    names = _models(answer)
    if answer.status != 200 or names is None:
        return [
            bad(check, f"{backend.url}/v1/models answers {answer.status} and lists no models", "is this the engine?")
        ]
    found = []
    missing = [model for model in backend.models if model not in names]
    said = f"{backend.url} answers in {took_ms:.0f} ms, serves {', '.join(names) or 'nothing'}"
    if missing:
        found.append(warning(check, f"{said}; not {', '.join(missing)}", "mend the backend's models, or load them"))
    elif not names:
        found.append(warning(check, said, "load a model: ollama pull NAME"))
    else:
        found.append(good(check, said))
    if (version := await _version(http, backend, headers)) is not None:
        found.append(version)
    if (skew := skew_s(answer.headers)) is not None and abs(skew) > _SKEW_WARN_S:
        seen = f"the clock there is {abs(skew):.0f} s {'ahead' if skew > 0 else 'behind'}"
        judge = bad if abs(skew) > _SKEW_FAIL_S else warning
        found.append(judge(f"clock.{backend.name}", seen, "keep both in step: timedatectl set-ntp true"))
    return found


async def reached(check: str, url: str, do: str) -> Finding:
    """Judge whether a TCP connection to `scheme://host:port` succeeds."""
    parts = urlsplit(url)
    begun = time.monotonic()
    try:
        async with asyncio.timeout(_ASK_MS / 1000):
            _, writer = await asyncio.open_connection(parts.hostname, parts.port)
    except TimeoutError:
        return bad(check, f"{url}: no answer within {_ASK_MS} ms", do)
    except OSError as error:
        return bad(check, f"{url}: {error.strerror or error}", do)
    writer.close()
    return good(check, f"{url} accepts connections, in {(time.monotonic() - begun) * 1000:.0f} ms")


def skew_s(headers: Mapping[str, str], now: datetime | None = None) -> float | None:
    """Return how far the clock behind an answer is ahead of ours, by its `Date` (RFC 9110 §6.6.1); None = none said.

    `Date` has whole seconds and was written a moment ago, so a second either way says nothing.
    """
    try:
        theirs = parsedate_to_datetime(headers.get("date", ""))
    except ValueError:
        return None
    if theirs.tzinfo is None:
        return None
    return (theirs - (now or datetime.now(UTC))).total_seconds()


async def _version(http: HttpClient, backend: Backend, headers: tuple[tuple[str, str], ...]) -> Finding | None:
    page = {"vllm": "/version", "ollama": "/api/version"}.get(backend.engine)
    if page is None:
        return None
    try:
        answer = await http.get(f"{backend.url.rstrip('/')}{page}", timeout_ms=_ASK_MS, headers=headers)
    except HttpError:
        return None
    body = _decoded(answer)
    said = str(body.get("version", "")) if isinstance(body, dict) else ""
    match = _VERSION.match(said)
    if match is None:
        return None
    check = f"version.{backend.name}"
    if backend.engine == "vllm" and (int(match[1]), int(match[2])) < _BOUNDED_VLLM:
        return warning(check, f"vLLM {said} cannot bound its queue", "vLLM 0.29 or newer, with --max-num-queued-reqs")
    return good(check, f"{backend.engine} {said}")


def _models(answer: Response) -> list[str] | None:
    body = _decoded(answer)
    rows = body.get("data") if isinstance(body, dict) else None
    if not isinstance(rows, list):
        # Ollama without a model says null.
        return [] if isinstance(body, dict) and "data" in body else None
    return [str(row["id"]) for row in rows if isinstance(row, dict) and "id" in row]


def _decoded(answer: Response) -> Any:
    try:
        return msgspec.json.decode(answer.body)
    except UNREADABLE:
        return None
