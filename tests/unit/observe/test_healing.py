"""Acts that control refuses: told each time that they are called for anew, whatever the refusal looks like."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import pytest

from observe.heal import Path
from observe.healing import Healing
from observe.listed import Listed, listed
from observe.settings import HealingSettings
from streamkit.ops.http_client import HttpClient

pytestmark = pytest.mark.anyio
BACKENDS = {name: Listed(name=name, engine="vllm", health="up", models=("tiny",)) for name in ("one", "two")}


@asynccontextmanager
async def answering(status: int, body: bytes) -> AsyncIterator[str]:
    """Serve one answer to everything; the value is where."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        for line in head.lower().split(b"\r\n"):
            if line.startswith(b"content-length:"):
                await reader.readexactly(int(line.split(b":")[1]))
        writer.write(b"HTTP/1.1 %d x\r\ncontent-length: %d\r\nconnection: close\r\n\r\n" % (status, len(body)) + body)
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


def paths(*, sick: bool) -> list[Path]:
    return [Path("edge-1", "one", sick, "late"), Path("edge-1", "two", sick=False, why="")]


async def test_a_hold_that_is_refused_again_after_it_was_well_is_told_again():
    told: list[tuple[str, Mapping[str, object]]] = []
    refusal = b'{"error": {"message": "the last healthy backend of tiny"}}'
    async with answering(409, refusal) as control, HttpClient() as http:
        healing = Healing(HealingSettings(mode="on"), control)
        for sick in (True, False, True):
            await healing.heal(http, paths(sick=sick), BACKENDS, lambda name, fields: told.append((name, fields)))
    assert [(name, fields["done"], fields["refused"]) for name, fields in told] == [
        ("healing.hold", False, "the last healthy backend of tiny")
    ] * 2


async def test_an_answer_that_is_no_text_is_a_refusal_and_ends_nothing():
    told: list[Mapping[str, object]] = []
    async with answering(502, b'{"error": {"message": "\xff"}}') as control, HttpClient() as http:
        healing = Healing(HealingSettings(mode="on"), control)
        await healing.heal(http, paths(sick=True), BACKENDS, lambda _name, fields: told.append(fields))
    assert [fields["done"] for fields in told] == [False]
    lines = b'{"data": [{"name": "\xff", "engine": "vllm", "health": "up"}]}'
    async with answering(200, lines) as control, HttpClient() as http:
        assert await listed(http, control, ()) is None
