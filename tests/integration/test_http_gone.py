"""Clients that leave, or stop reading: their upstream is closed within a second, or paused and then cut (law 6)."""

from __future__ import annotations

import asyncio
from time import monotonic

import pytest

from tests.support.inprocess import DONE, MODEL, RunningEdge, ScriptedExchange, chunk, finish, running_edge, until
from tests.support.raw import Raw, post
from tests.support.timing import SOON_S

pytestmark = pytest.mark.anyio

STREAM = {"model": MODEL, "stream": True}
WHOLE = {"model": MODEL}
WAYS = ["close", "half_close", "reset"]


async def silent(exchange: ScriptedExchange) -> None:
    """Say nothing at all."""
    await exchange.closed.wait()


async def heads(exchange: ScriptedExchange) -> None:
    """Say that an answer is coming, and no more."""
    await exchange.head()
    await exchange.closed.wait()


async def comments(exchange: ScriptedExchange) -> None:
    """Keep the connection warm with comments, which are no events."""
    await exchange.head()
    while not exchange.closed.is_set():
        await exchange.send(b": keep-alive\n\n")
        await asyncio.sleep(0.01)


async def flows(exchange: ScriptedExchange) -> None:
    """Send tokens without end."""
    await exchange.head()
    while not exchange.closed.is_set():
        await exchange.send(chunk("token"))
        await asyncio.sleep(0.005)


async def gone(edge: RunningEdge, count: int = 1) -> None:
    """Expect the engine to see the close within a second, and nothing to be held after it."""
    for exchange in edge.engine.exchanges[-count:]:
        async with asyncio.timeout(SOON_S):
            await exchange.closed.wait()
    await edge.quiet(within_s=SOON_S)


@pytest.mark.parametrize("how", WAYS)
@pytest.mark.parametrize("engine", [silent, heads, comments], ids=lambda engine: engine.__name__)
async def test_a_client_that_leaves_before_the_first_event_stops_the_engine(engine, how):
    for body in (STREAM, WHOLE):
        async with running_edge(engine) as edge, Raw.to(edge.url) as client:
            await client.send(post(body))
            await edge.engine.asked()
            getattr(client, how)()
            await gone(edge)
            assert edge.metric("headrace_disconnects_total", phase="first_event") == 1


@pytest.mark.parametrize("how", WAYS)
@pytest.mark.parametrize("version", ["1.1", "1.0"])
async def test_a_client_that_leaves_mid_stream_stops_the_engine(how, version):
    async with running_edge(flows) as edge, Raw.to(edge.url) as client:
        await client.send(post(STREAM, version=version))
        await client.until(b"token")
        getattr(client, how)()
        await gone(edge)
        assert edge.metric("headrace_disconnects_total", phase="flowing") == 1
        assert edge.metric("headrace_attempts_total", outcome="cancelled") == 1


async def test_a_client_that_leaves_while_control_is_asked_never_reaches_an_engine():
    async with running_edge(silent) as edge, Raw.to(edge.url) as client:
        edge.control.answering.clear()
        await client.send(post(STREAM))
        await until(lambda: edge.control.routes, "control is asked")
        client.close()
        await until(lambda: not edge.connections, "the edge has seen it")
        edge.control.answering.set()
        await edge.quiet()
        assert not edge.engine.exchanges


async def test_a_client_that_half_closes_is_not_waited_for_though_it_could_still_read():
    async with running_edge(flows) as edge, Raw.to(edge.url) as client:
        await client.send(post(STREAM))
        await client.until(b"token")
        client.half_close()
        await client.gone()
        await gone(edge)


async def test_a_client_that_half_closes_after_its_answer_gets_all_of_it():
    body = {"id": "1", "choices": [], "pad": "x" * 2_000_000}

    async def large(exchange: ScriptedExchange) -> None:
        await exchange.answer(body)

    async with running_edge(large) as edge, Raw.to(edge.url, rcvbuf_bytes=8192) as client:
        await client.send(post(WHOLE))
        await edge.quiet()
        head = await client.head()
        client.half_close()
        assert (await client.body(head)).json == body


async def test_a_thousand_tokens_are_all_seen_by_a_reader_that_is_only_slow():
    async def fast(exchange: ScriptedExchange) -> None:
        await exchange.head()
        for number in range(1000):
            await exchange.send(chunk(f"<{number}>" + "x" * 400))
        for event in (finish(), DONE):
            await exchange.send(event)
        await exchange.end()

    small = {"write_high_bytes": 4096, "notsent_bytes": 1024, "upstream_rcvbuf_bytes": 4096}
    async with running_edge(fast, **small) as edge, Raw.to(edge.url, rcvbuf_bytes=4096) as client:
        await client.send(post(STREAM))
        head = await client.head()
        await until(lambda: edge.metric("headrace_pauses_total") >= 1, "the upstream is paused")
        assert edge.metric("headrace_streams_paused") == 1
        assert edge.metric("headrace_channel_bytes") > 4096
        await client.body(head)
        assert head.body.count(b"data: ") == 1002
        assert all(f"<{number}>".encode() in head.body for number in range(1000))
        assert head.body.endswith(DONE)
        await edge.quiet()
        assert edge.metric("headrace_paused_seconds_count") == 1
        assert edge.metric("headrace_streams_paused") == edge.metric("headrace_channel_bytes") == 0


async def test_a_frozen_reader_pauses_its_own_engine_and_is_cut_and_others_do_not_notice():
    async def endless(exchange: ScriptedExchange) -> None:
        await exchange.head()
        pad = "x" * 1000
        pause_s = 0.005 if "paced" in exchange.json else 0
        while not exchange.closed.is_set():
            await exchange.send(chunk(pad))
            if pause_s:
                await asyncio.sleep(pause_s)

    small = {"write_high_bytes": 16 * 1024, "notsent_bytes": 4096, "upstream_rcvbuf_bytes": 8192}
    async with (
        running_edge(endless, slow_reader_ms=1_000, **small) as edge,
        Raw.to(edge.url, rcvbuf_bytes=8192) as frozen,
        Raw.to(edge.url) as other,
    ):
        await frozen.send(post(STREAM))
        first = await edge.engine.asked()
        await other.send(post({**STREAM, "paced": True}))
        reading = await other.head()
        longest, last = 0.0, monotonic()
        while not first.closed.is_set():
            await other.chunk(reading)
            longest, last = max(longest, monotonic() - last), monotonic()
        # 16 KiB of ours, 4 KiB unsent, 8 KiB of each end's window (doubled by the kernel), the engine's own buffers.
        assert first.sent_bytes < 512 * 1024, first.sent_bytes
        assert longest < 0.8, "a stream beside it never stopped for as long as the frozen one was waited for"
        assert edge.metric("headrace_pauses_total") == 1
        await until(lambda: edge.parts.streams.count == 1, "only the other stream is left")
        assert edge.inflight == 1
        assert edge.metric("headrace_streams_total", code="slow_reader") == 1
        assert edge.metric("headrace_disconnects_total", phase="flowing", cause="slow_reader") == 1
        await frozen.gone()
        other.close()
        await edge.quiet()


async def test_a_frozen_reader_of_a_finished_answer_is_cut_by_the_kernel_after_user_timeout_ms():
    pad = "x" * 200_000

    async def ends(exchange: ScriptedExchange) -> None:
        if exchange.json.get("stream"):
            await exchange.stream(chunk("x" * 40_000), finish(), DONE)
        else:
            await exchange.answer({"id": pad})

    small = {"write_high_bytes": 4096, "notsent_bytes": 4096, "user_timeout_ms": 400, "slow_reader_ms": 60_000}
    for body in (STREAM, WHOLE):
        async with running_edge(ends, **small) as edge, Raw.to(edge.url, rcvbuf_bytes=4096) as client:
            await client.send(post(body))
            await edge.engine.asked()
            await until(lambda edge=edge: not edge.connections, "the connection is given up")
            await edge.quiet()
            await client.gone()


def splits(data: bytes, size: int) -> list[bytes]:
    return [data[at : at + size] for at in range(0, len(data), size)]


@pytest.mark.parametrize("ends", [b"\n", b"\r\n"], ids=["LF", "CRLF"])
async def test_whatever_the_engine_cuts_only_whole_events_leave_and_heartbeats_stand_between_them(ends):
    events = [chunk(text) for text in ("a", "b\u00e9", "c" * 300, "d\\n\\n")] + [finish(), DONE]
    payload = b"".join(event.replace(b"\n", ends) for event in events)

    async def cut(exchange: ScriptedExchange) -> None:
        await exchange.head()
        for piece in splits(payload, exchange.json["size"]):
            await exchange.send(piece)
            await exchange_pace(exchange)
        await exchange.end()

    async def exchange_pace(exchange: ScriptedExchange) -> None:
        # Long enough for a read of its own, and now and then for a heartbeat in the middle of an event.
        await asyncio.sleep(0.012 if exchange.sent_bytes % 5 == 0 and exchange.json["size"] > 20 else 0)

    blank = (ends * 2, b"\n\n")
    async with running_edge(cut, heartbeat_ms=5, commit_after_ms=5) as edge, Raw.to(edge.url) as client:
        for size in (1, 2, 3, 7, 31, 64, 1000):
            answer = await client.ask(post({**STREAM, "size": size}))
            assert answer.whole
            for piece in answer.chunks:
                assert piece.endswith(blank), piece
            sent = answer.body.replace(b": ping\n\n", b"")
            assert sent == payload, f"size {size}"
        assert edge.metric("headrace_heartbeats_total") > 0
        await edge.quiet()


async def test_an_engine_that_is_cut_mid_event_leaves_an_error_frame_and_no_half_event():
    async def dies(exchange: ScriptedExchange) -> None:
        await exchange.head()
        await exchange.send(chunk("one"))
        await exchange.send(chunk("two")[:-20])
        exchange.cut()

    async with running_edge(dies) as edge, Raw.to(edge.url) as client:
        answer = await client.ask(post(STREAM))
        assert answer.whole
        assert answer.body.startswith(chunk("one") + b'data: {"error":')
        assert answer.body.endswith(DONE)
        assert b"two" not in answer.body
        assert (await client.ask(post(path="/v1/models", method="GET"))).status == 200
        await edge.quiet()


async def test_heartbeats_go_on_while_nothing_comes_and_the_connection_is_good_afterwards():
    release = asyncio.Event()

    async def late(exchange: ScriptedExchange) -> None:
        await exchange.head()
        await release.wait()
        for event in (chunk("late"), finish(), DONE):
            await exchange.send(event)
        await exchange.end()

    async with running_edge(late, commit_after_ms=10, heartbeat_ms=10) as edge, Raw.to(edge.url) as client:
        await client.send(post(STREAM))
        head = await client.head()
        for _ in range(5):
            assert await client.chunk(head) == b": ping\n\n"
        release.set()
        await client.body(head)
        assert head.body.replace(b": ping\n\n", b"") == b"".join((chunk("late"), finish(), DONE))
        assert (await client.ask(post(STREAM))).whole
