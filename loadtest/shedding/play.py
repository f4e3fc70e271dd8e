"""The script: calm, an overload of the preferred engine from outside, calm again; and what was seen meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
import time
from pathlib import Path
from typing import Final

import msgspec

from loadtest.shedding.site import MODEL, NAMES, Site
from streamkit.ops.http_client import HttpClient, HttpError

__all__ = ["Script", "Seen", "play"]

#: Streams that overload an engine which serves four at a time: four run, six wait.
_STREAMS: Final = 10
_EVERY_S: Final = 0.1
_CALL_MS: Final = 20_000


class Script(msgspec.Struct, frozen=True):
    """How long each act lasts, in seconds."""

    calm_s: float = 5.0
    overload_s: float = 12.0
    after_s: float = 13.0

    @property
    def whole_s(self) -> float:
        """All acts together."""
        return self.calm_s + self.overload_s + self.after_s


class Seen(msgspec.Struct):
    """What was seen; times are seconds since the start.

    Args:
        requests: when each was sent, and who answered: a backend's name, or a status.
        pressure: when control was asked, and what it knew of each engine's pressure; None = nothing yet.
    """

    requests: list[tuple[float, str]] = []
    pressure: list[tuple[float, dict[str, str | None]]] = []

    def changes(self, backend: str) -> list[str]:
        """Return the levels of a backend in their order, each once for as long as it lasted."""
        levels: list[str] = []
        for _, by_name in self.pressure:
            level = by_name.get(backend)
            if level is not None and (not levels or levels[-1] != level):
                levels.append(level)
        return levels


class _Line(msgspec.Struct, frozen=True):
    name: str
    pressure: str | None = None


class _Lines(msgspec.Struct, frozen=True):
    data: list[_Line]


async def play(script: Script, scratch: Path) -> Seen:
    """Run the script on processes of its own and return what was seen."""
    seen = Seen()
    async with Site(scratch) as site, HttpClient(max_connections=256) as http:
        begun = time.monotonic()
        tasks = [
            asyncio.create_task(_ask(site, http, seen, begun)),
            asyncio.create_task(_look(site, http, seen, begun)),
        ]
        await asyncio.sleep(script.calm_s)
        load = [asyncio.create_task(_burden(site, http)) for _ in range(_STREAMS)]
        await asyncio.sleep(script.overload_s)
        await _end(load)
        await asyncio.sleep(script.after_s)
        await _end(tasks)
    return seen


async def _end(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    for ended in await asyncio.gather(*tasks, return_exceptions=True):
        if isinstance(ended, Exception):
            raise ended


async def _ask(site: Site, http: HttpClient, seen: Seen, begun: float) -> None:
    """Ask the gateway for something short at a steady pace, as tenants of priority 5; nobody waits for another."""
    async with asyncio.TaskGroup() as group:
        while True:
            group.create_task(_ask_once(site, http, seen, begun))
            await asyncio.sleep(_EVERY_S)


async def _ask_once(site: Site, http: HttpClient, seen: Seen, begun: float) -> None:
    body = {"model": MODEL, "max_tokens": 2, "messages": [{"role": "user", "content": "hello"}]}
    at = time.monotonic() - begun
    try:
        answer = await http.post_json(f"{site.edge}/v1/chat/completions", body, timeout_ms=_CALL_MS)
    except HttpError as error:
        seen.requests.append((at, error.reason))
    else:
        name = answer.headers.get("x-headrace-backend", "")
        seen.requests.append((at, name if answer.status == 200 and name in NAMES else str(answer.status)))


async def _look(site: Site, http: HttpClient, seen: Seen, begun: float) -> None:
    """Note what control knows of each engine."""
    while True:
        with contextlib.suppress(HttpError):
            answer = await http.get(f"{site.control}/v1/backends", timeout_ms=_CALL_MS)
            lines = msgspec.json.decode(answer.body, type=_Lines).data
            seen.pressure.append((time.monotonic() - begun, {line.name: line.pressure for line in lines}))
        await asyncio.sleep(_EVERY_S)


async def _burden(site: Site, http: HttpClient) -> None:
    """Hold one endless stream at the preferred engine, past the gateway: somebody else uses it, too."""
    body = {"model": MODEL, "stream": True, "messages": [{"role": "user", "content": "go on"}]}
    headers = [("x-sim", "tokens=100000,itl_ms=50")]
    call = http.stream_lines(
        f"{site.engines[NAMES[0]]}/v1/chat/completions", body, timeout_ms=600_000, idle_ms=600_000, headers=headers
    )
    async with call as stream:
        async for _ in stream.lines:
            pass
