"""Requests that a client sends before the answer to an earlier one: in order, bounded, and never in the way."""

from __future__ import annotations

import asyncio

import pytest

from tests.support.inprocess import DONE, MODEL, ScriptedExchange, chunk, finish, running_edge
from tests.support.raw import Raw, post
from tests.support.timing import SOON_S

pytestmark = pytest.mark.anyio

STREAM = {"model": MODEL, "stream": True}
MODELS = post(path="/v1/models", method="GET")


def held(exchange_release: asyncio.Event):
    """Return an engine that sends one event, and the rest when the event is set."""

    async def engine(exchange: ScriptedExchange) -> None:
        await exchange.head()
        await exchange.send(chunk("first"))
        await exchange_release.wait()
        for event in (chunk("second"), finish(), DONE):
            await exchange.send(event)
        await exchange.end()

    return engine


async def test_two_requests_in_one_segment_are_answered_in_order():
    release = asyncio.Event()
    async with running_edge(held(release)) as edge, Raw.to(edge.url) as client:
        await client.send(post(STREAM) + MODELS + post(b"{") + MODELS)
        first = await client.head()
        assert b"first" in (await client.chunk(first) or b"")
        release.set()
        assert (await client.body(first)).body.endswith(DONE)
        assert (await client.response()).json["object"] == "list"
        assert (await client.response()).error["code"] == "invalid_request"
        assert (await client.response()).json["object"] == "list"
        assert (await client.ask(MODELS)).status == 200


async def test_a_request_that_arrives_in_the_middle_of_a_stream_waits_for_its_end():
    release = asyncio.Event()
    async with running_edge(held(release)) as edge, Raw.to(edge.url) as client:
        await client.send(post(STREAM))
        first = await client.head()
        await client.chunk(first)
        # In halves, of which the second comes later still, and a third request behind them.
        await client.send(MODELS[:20])
        await client.send(MODELS[20:] + post(STREAM)[:30])
        release.set()
        assert (await client.body(first)).body.endswith(DONE)
        assert (await client.response()).json["object"] == "list"
        again = await client.ask(post(STREAM)[30:])
        assert again.body.endswith(DONE)
        assert len(edge.engine.exchanges) == 2


async def test_a_pipelined_body_may_be_split_anywhere():
    release = asyncio.Event()
    release.set()
    first = post(STREAM)
    requests = first + post({**STREAM, "pad": "x" * 300}) + MODELS
    async with running_edge(held(release)) as edge:
        for count, cut in enumerate(range(len(first), len(requests), 37)):
            async with Raw.to(edge.url) as client:
                await client.send(requests[:cut])
                await edge.engine.asked(2 * count + 1)
                await client.send(requests[cut:])
                for _ in range(2):
                    assert (await client.response()).body.endswith(DONE)
                assert (await client.response()).json["object"] == "list"
        await edge.quiet()


@pytest.mark.parametrize("how", ["close", "half_close", "reset"])
async def test_a_client_that_leaves_with_a_request_pipelined_is_seen_at_once(how):
    for together in (True, False):
        async with running_edge(held(asyncio.Event())) as edge, Raw.to(edge.url) as client:
            await client.send(post(STREAM) + MODELS * together)
            first = await client.head()
            await client.chunk(first)
            if not together:
                await client.send(MODELS)
            getattr(client, how)()
            async with asyncio.timeout(SOON_S):
                await edge.engine.last.closed.wait()
            await edge.quiet()
            assert len(edge.engine.exchanges) == 1


async def test_more_than_max_pipelined_bytes_behind_an_answer_closes_the_connection():
    async with running_edge(held(asyncio.Event()), max_pipelined_bytes=4096) as edge, Raw.to(edge.url) as client:
        await client.send(post(STREAM))
        first = await client.head()
        await client.chunk(first)
        taken = await client.pour(MODELS, 64 * 1024 * 1024)
        assert taken < 16 * 1024 * 1024, "only kernel buffers took more"
        await client.gone()
        async with asyncio.timeout(SOON_S):
            await edge.engine.last.closed.wait()
        await edge.quiet()


async def test_hundreds_of_requests_in_one_segment_end_after_the_answers_that_are_kept():
    async with running_edge() as edge, Raw.to(edge.url) as client:
        await client.send(MODELS * 200)
        for _ in range(33):
            assert (await client.response()).status == 200
        assert (await client.response()).error["code"] == "too_large"
        assert not await client.gone()


async def test_no_deadline_of_a_pipelined_request_runs_while_its_client_waits_for_us():
    for tail in (MODELS[:10], post(STREAM)[:-5]):
        release = asyncio.Event()
        async with running_edge(held(release), header_ms=40, body_ms=40) as edge, Raw.to(edge.url) as client:
            await client.send(post(STREAM) + tail)
            first = await client.head()
            await client.chunk(first)
            await asyncio.sleep(0.1)
            release.set()
            assert (await client.body(first)).body.endswith(DONE)
            late = await client.response()
            assert (late.status, late.error["code"]) == (408, "request_timeout"), "now it does"
            assert await client.ended() == b""


async def test_rubbish_behind_a_request_is_refused_after_the_answer_to_it():
    for rubbish in (
        b"\x00\x01rubbish\r\n\r\n",
        post(headers={"content-length": "5x"}),
        b"GET / HTTP/1.1\r\nA B: 1\r\n\r\n",
    ):
        release = asyncio.Event()
        async with running_edge(held(release)) as edge, Raw.to(edge.url) as client:
            await client.send(post(STREAM) + rubbish)
            first = await client.head()
            await client.chunk(first)
            release.set()
            assert (await client.body(first)).body.endswith(DONE)
            assert (await client.response()).error["code"] == "invalid_request"
            assert not await client.gone()


async def test_a_pipelined_request_with_a_broken_body_does_not_reach_the_application():
    release = asyncio.Event()
    broken = post(headers={"content-length": "", "transfer-encoding": "chunked"}) + b"zz\r\n"
    async with running_edge(held(release)) as edge, Raw.to(edge.url) as client:
        await client.send(post(STREAM) + MODELS + broken)
        first = await client.head()
        await client.chunk(first)
        release.set()
        assert (await client.body(first)).body.endswith(DONE)
        assert (await client.response()).json["object"] == "list"
        assert (await client.response()).error["code"] == "invalid_request"
        await edge.quiet()
        assert len(edge.engine.exchanges) == 1


async def test_what_follows_a_request_that_closes_is_not_answered():
    release = asyncio.Event()
    release.set()
    async with running_edge(held(release)) as edge, Raw.to(edge.url) as client:
        await client.send(post(STREAM, headers={"connection": "close"}) + MODELS * 3)
        answer = await client.response()
        assert answer.body.endswith(DONE)
        assert await client.ended() == b""
