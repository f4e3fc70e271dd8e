"""A drain and the requests that were on their way when it began: each is answered, and says that it was the last."""

from __future__ import annotations

import pytest

from tests.support.inprocess import ScriptedExchange, running_edge
from tests.support.raw import Raw

pytestmark = pytest.mark.anyio
GET = b"GET /v1/models HTTP/1.1\r\nhost: x\r\n\r\n"


async def engine(exchange: ScriptedExchange) -> None:
    """Never asked."""


async def test_a_connection_that_was_just_opened_still_gets_its_answer() -> None:
    async with running_edge(engine) as edge, Raw.to(edge.url) as kept, Raw.to(edge.url) as fresh:
        assert (await kept.ask(GET)).status == 200
        edge.edge.lifecycle.begin_drain()
        assert await kept.ended() == b"", "an idle connection is closed at once"
        answer = await fresh.ask(GET)
        assert (answer.status, answer.headers["connection"]) == (200, "close")
        assert await fresh.ended() == b""


async def test_a_request_that_is_here_and_not_read_is_answered() -> None:
    async with running_edge(engine) as edge, Raw.to(edge.url) as kept:
        assert (await kept.ask(GET)).status == 200
        await kept.send(GET)
        edge.edge.lifecycle.begin_drain()
        assert (await kept.response()).status == 200
        assert await kept.ended() == b""


async def test_a_connection_that_asks_nothing_does_not_hold_a_drain_up() -> None:
    async with running_edge(engine, drain_ms=60_000) as edge, Raw.to(edge.url) as silent:
        edge.edge.lifecycle.begin_drain()
        assert await silent.ended() == b""
