"""Resumable streams at the public door: ids, drops, takeovers, windows, bounds, owners."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from edge.protocol.ring import CHARGE_BYTES
from streamkit.wire.ids import Instance, StreamIds
from streamkit.wire.keys import KeyRecord, KeySnapshot, Tenant, digest, new_key
from tests.support.inprocess import DONE, MODEL, RunningEdge, ScriptedExchange, chunk, finish, running_edge, until
from tests.support.raw import Raw, Response, post
from tests.support.rig import ms

pytestmark = pytest.mark.anyio

USAGE = b'data: {"id":"1","choices":[],"usage":{"prompt_tokens":3,"completion_tokens":4,"total_tokens":7}}\n\n'
PING = b": ping\n"
CHAT = {"model": MODEL, "stream": True, "messages": []}


def ask(seconds: object = 30, body: object = None, **headers: str) -> bytes:
    return post(body or CHAT, headers={"X-Headrace-Resume": str(seconds), **headers})


def come_back(
    stream_id: str, after: int | None = None, *, method: str = "GET", query: str = "", **more: str
) -> bytes:
    headers = {"content-type": "", **({"Last-Event-ID": str(after)} if after is not None else {}), **more}
    return post(path=f"/v1/streams/{stream_id}{query}", method=method, headers=headers)


def numbered(*events: bytes, first: int = 1) -> bytes:
    return b"".join(b"id: %d\n%b" % (number, event) for number, event in enumerate(events, first))


def without_pings(data: bytes) -> bytes:
    return data.replace(PING, b"")


class Steps:
    """An engine that sends its next event when it is told to."""

    def __init__(self, *events: bytes) -> None:
        self.events = events
        self.sent = 0
        self._go = asyncio.Semaphore(0)

    def go(self, count: int = 1) -> None:
        for _ in range(count):
            self._go.release()

    async def __call__(self, exchange: ScriptedExchange) -> None:
        await exchange.head()
        for event in self.events:
            await self._go.acquire()
            await exchange.send(event)
            self.sent += 1
        await exchange.end()


ANSWER = (chunk("a"), chunk("b"), chunk("c"), finish(), DONE)


@asynccontextmanager
async def begun(edge: RunningEdge, request: bytes | None = None) -> AsyncIterator[tuple[Raw, Response, str]]:
    """A resumable stream whose headers are here."""
    async with Raw.to(edge.url) as client:
        await client.send(request or ask())
        head = await client.head()
        assert head.status == 200, await client.body(head)
        yield client, head, head.headers["x-headrace-stream"]


async def fetch(edge: RunningEdge, request: bytes) -> Response:
    async with Raw.to(edge.url) as client:
        return await client.ask(request)


async def nothing_left(edge: RunningEdge) -> None:
    await edge.quiet()
    await until(lambda: edge.metric("headrace_streams_kept") == 0, "everything is released")
    assert edge.metric("headrace_streams_detached") == 0
    assert edge.metric("headrace_buffered_bytes") == 0


# The wire


async def test_ids_number_what_is_delivered_and_headers_go_out_at_once():
    engine = Steps(chunk("a"), finish(), USAGE, DONE)
    async with running_edge(engine) as edge:
        async with begun(edge) as (client, head, stream_id):
            assert edge.engine.exchanges == [] or not engine.sent, "no event came before the headers"
            assert re.fullmatch(r"hs-test\.0\.[0-9a-f]+-[0-9a-f]{32}-[0-9a-f]{16}", stream_id)
            engine.go(4)
            await client.body(head)
        # The usage chunk was forced by the gateway: it is stripped, and has no number.
        assert head.body == numbered(chunk("a"), finish(), DONE)
        await edge.quiet()
        assert edge.metric("headrace_streams_kept") == 1, "it can still be read"


async def test_without_the_header_nothing_changes():
    async def script(exchange: ScriptedExchange) -> None:
        await exchange.stream(*ANSWER)

    async with running_edge(script) as edge:
        answer = await fetch(edge, post(CHAT))
        assert answer.body == b"".join(ANSWER)
        assert "x-headrace-stream" not in answer.headers
        await nothing_left(edge)


async def test_a_heartbeat_is_one_line_and_no_event():
    engine = Steps(*ANSWER)
    async with running_edge(engine, commit_after_ms=ms(30), heartbeat_ms=ms(30)) as edge:
        async with begun(edge) as (client, head, _):
            assert await client.chunk(head) == PING
            engine.go()
            assert await client.chunk(head) == numbered(chunk("a"))
            assert await client.chunk(head) == PING
            engine.go(4)
            await client.body(head)
        assert without_pings(head.body) == numbered(*ANSWER)
        assert b"\n\n\n" not in head.body


async def test_the_gateways_own_error_frame_has_a_number_too():
    async def script(exchange: ScriptedExchange) -> None:
        await exchange.head()
        await exchange.send(chunk("a"))
        exchange.cut()

    async with running_edge(script) as edge:
        async with begun(edge) as (client, head, stream_id):
            await client.body(head)
        assert head.body.startswith(numbered(chunk("a")) + b'id: 2\ndata: {"error":')
        assert head.body.endswith(b"id: 3\n" + DONE)
        again = await fetch(edge, come_back(stream_id, 1))
        assert again.body == head.body.removeprefix(numbered(chunk("a")))


async def test_a_refusal_is_still_a_status():
    async with running_edge() as edge:
        answer = await fetch(edge, ask())
        assert (answer.status, answer.error["code"]) == (503, "no_backend")
        await nothing_left(edge)


@pytest.mark.parametrize("value", ["0", "-1", "1.5", "ten", "1e3", "121", "99999999999", "٣", "30, 30"])
async def test_a_bad_window_is_refused_by_name(value):
    async def script(exchange: ScriptedExchange) -> None:
        await exchange.stream(*ANSWER)

    async with running_edge(script) as edge, Raw.to(edge.url) as client:
        request = ask("@").replace(b"@", value.encode(), 1)
        answer = await client.ask(request)
        assert (answer.status, answer.error["param"]) == (400, "X-Headrace-Resume")
        assert "1 to 120" in answer.error["message"]
        await nothing_left(edge)


async def test_what_is_no_stream_cannot_be_resumed():
    async with running_edge(Steps()) as edge:
        answer = await fetch(edge, ask(body={"model": MODEL, "messages": []}))
        assert (answer.status, answer.error["param"]) == (400, "X-Headrace-Resume")


async def test_resume_can_be_turned_off():
    async with running_edge(Steps(), resume_max_ms=0) as edge:
        answer = await fetch(edge, ask())
        assert (answer.status, answer.error["param"]) == (400, "X-Headrace-Resume")
        assert "resume_max_ms" in answer.error["message"]


# Coming back


@pytest.mark.parametrize(
    "how", ["reset", *(pytest.param(how, marks=pytest.mark.slow) for how in ("close", "half_close"))]
)
async def test_parts_join_to_the_whole_wherever_the_drop_is(how):
    """Drop after every event, and inside the next; come back for the rest, while the engine goes on or is done."""
    events = (*[chunk(f"t{number} ☃") for number in range(6)], finish(), DONE)
    whole = numbered(*events)
    for drop in range(len(events)):
        for late in (0, len(events)):
            engine = Steps(*events)
            async with running_edge(engine) as edge:
                async with begun(edge) as (client, head, stream_id):
                    for _ in range(drop):
                        engine.go()
                        await client.chunk(head)
                    getattr(client, how)()
                    await until(lambda: edge.metric("headrace_streams_detached") == 1, "the drop was seen")
                    assert edge.inflight == 1, "the engine works on"
                    engine.go(late)
                    await until(lambda: engine.sent >= min(late, len(events) - drop), "the engine went on")  # noqa: B023
                async with Raw.to(edge.url) as client:
                    await client.send(come_back(stream_id, drop))
                    second = await client.head()
                    assert second.headers["x-headrace-stream"] == stream_id
                    engine.go(len(events))
                    await client.body(second)
                assert head.body + second.body == whole, (drop, late)
                assert edge.metric("headrace_resumes_total") == 1
                await edge.quiet()
                stop = await fetch(edge, come_back(stream_id, method="DELETE"))
                assert stop.status == 204
                await nothing_left(edge)


async def test_a_finished_stream_is_read_from_any_event_and_then_is_over():
    async def script(exchange: ScriptedExchange) -> None:
        await exchange.stream(*ANSWER)

    async with running_edge(script) as edge:
        async with begun(edge) as (client, head, stream_id):
            await client.body(head)
        for after in range(len(ANSWER)):
            again = await fetch(edge, come_back(stream_id, after))
            assert again.body == numbered(*ANSWER[after:], first=after + 1)
        assert (await fetch(edge, come_back(stream_id, query="?after=3"))).body == numbered(*ANSWER[3:], first=4)
        assert (await fetch(edge, come_back(stream_id, 4, query="?after=0"))).body == numbered(DONE, first=5)
        assert (await fetch(edge, come_back(stream_id))).body == numbered(*ANSWER)
        # An EventSource is told by 204 not to come back.
        nothing = await fetch(edge, come_back(stream_id, len(ANSWER)))
        assert (nothing.status, nothing.body) == (204, b"")


async def test_a_client_that_leaves_before_it_knows_the_id_cancels():
    engine = Steps(*ANSWER)
    async with running_edge(engine) as edge:
        async with Raw.to(edge.url) as first:
            # The first answer is not read to its end, so the headers of the second cannot be known to anybody.
            await first.send(post(CHAT))
            await edge.engine.asked()
        await edge.engine.last.closed.wait()
        await nothing_left(edge)


async def test_a_stream_that_nobody_comes_back_for_expires():
    engine = Steps(*ANSWER)
    async with running_edge(engine) as edge:
        async with begun(edge, ask(1)) as (client, head, stream_id):
            engine.go()
            await client.chunk(head)
        await until(lambda: edge.metric("headrace_streams_detached") == 1, "detached")
        assert not edge.engine.last.closed.is_set()
        assert edge.inflight == 1
        await asyncio.wait_for(edge.engine.last.closed.wait(), 10)
        await nothing_left(edge)
        assert edge.metric("headrace_resume_windows_expired_total") == 1
        assert edge.metric("headrace_streams_total", outcome="expired") == 1
        gone = await fetch(edge, come_back(stream_id, 1))
        assert (gone.status, gone.error["code"], gone.headers["x-should-retry"]) == (410, "gone", "false")


async def test_a_finished_stream_is_released_when_its_window_is_over():
    async def script(exchange: ScriptedExchange) -> None:
        await exchange.stream(*ANSWER)

    async with running_edge(script) as edge:
        async with begun(edge, ask(1)) as (client, head, stream_id):
            await client.body(head)
        assert edge.metric("headrace_buffered_bytes", account="rings") > 0
        await nothing_left(edge)
        assert (await fetch(edge, come_back(stream_id, 1))).status == 410


async def test_a_reader_that_is_there_holds_the_window_open():
    engine = Steps(*ANSWER)
    async with running_edge(engine, heartbeat_ms=ms(100), commit_after_ms=ms(100)) as edge:
        async with begun(edge, ask(1)) as (client, head, _):
            engine.go()
            await client.chunk(head)
            while head.body.count(PING) * ms(100) < 1_500:
                await client.chunk(head)
            engine.go(4)
            await client.body(head)
        assert without_pings(head.body) == numbered(*ANSWER)
        await nothing_left(edge)


# Takeover and stop


async def test_the_newest_reader_wins_and_the_old_one_is_told():
    engine = Steps(*ANSWER)
    async with running_edge(engine) as edge, begun(edge) as (old, head, stream_id):
        engine.go(2)
        while head.body.count(b"data:") < 2:
            await old.chunk(head)
        async with Raw.to(edge.url) as new:
            await new.send(come_back(stream_id, 1))
            second = await new.head()
            assert await new.chunk(second) == numbered(chunk("b"), first=2)
            await old.body(head)
            engine.go(3)
            await new.body(second)
        assert head.whole
        last = head.body.removeprefix(numbered(chunk("a"), chunk("b")))
        assert b'"code":"taken_over"' in last
        assert b"id:" not in last, "it is none of the stream's events"
        assert last.endswith(DONE)
        assert second.body == numbered(*ANSWER[1:], first=2)
        assert edge.metric("headrace_takeovers_total") == 1
        assert edge.metric("headrace_resumes_total") == 0
        # The connection that lost its stream is as good as new.
        assert (await old.ask(come_back(stream_id, 4))).body == numbered(DONE, first=5)


async def test_delete_stops_at_once_and_tells_the_reader():
    engine = Steps(*ANSWER)
    async with running_edge(engine) as edge, begun(edge) as (client, head, stream_id):
        engine.go()
        await client.chunk(head)
        assert (await fetch(edge, come_back(stream_id, method="DELETE"))).status == 204
        await asyncio.wait_for(edge.engine.last.closed.wait(), 1)
        await client.body(head)
        assert b'"code":"stopped"' in head.body
        assert head.body.endswith(DONE)
        assert (await fetch(edge, come_back(stream_id, 1))).status == 410
        assert (await fetch(edge, come_back(stream_id, method="DELETE"))).status == 410
        assert edge.metric("headrace_streams_total", outcome="cancelled") == 1
        await nothing_left(edge)


async def test_delete_stops_a_stream_that_nobody_reads():
    engine = Steps(*ANSWER)
    async with running_edge(engine) as edge:
        async with begun(edge) as (client, head, stream_id):
            engine.go()
            await client.chunk(head)
        await until(lambda: edge.metric("headrace_streams_detached") == 1, "detached")
        assert (await fetch(edge, come_back(stream_id, method="DELETE"))).status == 204
        await asyncio.wait_for(edge.engine.last.closed.wait(), 1)
        await nothing_left(edge)


async def test_other_methods_are_refused():
    async with running_edge(Steps()) as edge:
        answer = await fetch(edge, come_back("hs-x", method="PUT"))
        assert (answer.status, answer.headers["allow"]) == (405, "GET, DELETE")


# Bounds


async def test_a_full_ring_pauses_the_engine_and_loses_nothing():
    events = [chunk(f"{number} " + "x" * 1000) for number in range(400)]

    async def script(exchange: ScriptedExchange) -> None:
        await exchange.stream(*events, finish(), DONE)

    limits = {"ring_bytes": 64 * 1024, "upstream_rcvbuf_bytes": 4096}
    async with running_edge(script, **limits) as edge:
        async with begun(edge) as (client, head, stream_id):
            await client.chunk(head)
            got = head.body.count(b"data:")
        await until(lambda: edge.metric("headrace_pauses_total") == 1, "the ring is full")
        sent = edge.engine.last.sent_bytes
        assert sent < 300_000, "the engine was paused in the middle"
        assert 48 * 1024 < edge.metric("headrace_buffered_bytes", account="rings") < 128 * 1024
        assert edge.inflight == 1
        rest = await fetch(edge, come_back(stream_id, got))
        assert head.body + rest.body == numbered(*events, finish(), DONE)
        assert edge.metric("headrace_buffered_bytes", account="rings") <= 64 * 1024 + 2 * CHARGE_BYTES
        # What was sent long ago is gone.
        old = await fetch(edge, come_back(stream_id, 1))
        assert (old.status, old.error["code"]) == (410, "gone")
        assert "Event 2 is no longer kept" in old.error["message"]


async def test_a_reader_that_stalls_is_let_go_and_finds_its_stream_again():
    events = [chunk(f"{number} " + "x" * 1000) for number in range(600)]

    async def script(exchange: ScriptedExchange) -> None:
        await exchange.stream(*events, finish(), DONE)

    limits = {"write_high_bytes": 4096, "notsent_bytes": 1024, "slow_reader_ms": ms(150)}
    async with running_edge(script, **limits) as edge:
        async with Raw.to(edge.url, rcvbuf_bytes=4096) as client:
            await client.send(ask())
            head = await client.head()
            stream_id = head.headers["x-headrace-stream"]
            await until(lambda: edge.connections, "it is connected")
            await until(lambda: not edge.connections, "it was cut", within_s=30)
            assert await client.gone(), "by a reset"
        await edge.quiet()
        assert edge.metric("headrace_streams_total", outcome="finished") == 1
        again = await fetch(edge, come_back(stream_id, 0))
        assert again.body == numbered(*events, finish(), DONE)


async def test_where_memory_is_used_up_finished_streams_make_room_and_then_the_stream_fails():
    events = [chunk(f"{number} " + "x" * 8000) for number in range(80)]

    left = asyncio.Event()
    left.set()

    async def script(exchange: ScriptedExchange) -> None:
        await exchange.head()
        await exchange.send(events[0])
        await left.wait()
        for event in (*events[1:], finish(), DONE):
            await exchange.send(event)
        await exchange.end()

    async with running_edge(script) as edge:
        whole = await fetch(edge, ask())
        assert whole.body == numbered(*events, finish(), DONE)
        shelf = edge.parts.shelf
        used = edge.metric("headrace_buffered_bytes", account="rings")
        shelf.settings = type(shelf.settings)(
            longest_s=60, ring_bytes=1 << 20, rings_bytes=int(used), slow_reader_s=9
        )
        second = await fetch(edge, ask())
        assert second.body == whole.body
        assert edge.metric("headrace_streams_kept") == 1, "the first one made room"
        shelf.settings = type(shelf.settings)(longest_s=60, ring_bytes=1 << 20, rings_bytes=50_000, slow_reader_s=9)
        assert (await fetch(edge, ask())).body == whole.body, "a reader that keeps up needs no more"
        left.clear()
        async with begun(edge) as (client, head, stream_id):
            await client.chunk(head)
            got = head.body.count(b"data:")
        await until(lambda: edge.metric("headrace_streams_detached") == 1, "detached")
        left.set()
        await edge.quiet()
        assert edge.metric("headrace_streams_total", outcome="failed", code="out_of_memory") == 1
        rest = await fetch(edge, come_back(stream_id, got))
        parts = re.split(rb"id: [0-9]+\n", head.body + rest.body)[1:]
        assert len(parts) < len(events)
        assert parts[:-2] == events[: len(parts) - 2], "what was kept has no gap"
        assert b'"code":"out_of_memory"' in parts[-2]
        assert parts[-1] == DONE
        assert (await fetch(edge, come_back(stream_id, method="DELETE"))).status == 204
        await nothing_left(edge)


# Owners and ids


@pytest.mark.parametrize(
    ("after", "param"),
    [("x", "Last-Event-ID"), ("-1", "Last-Event-ID"), ("1" * 16, "Last-Event-ID"), ("99", None)],
)
async def test_a_bad_last_event_id_is_refused(after, param):
    engine = Steps(*ANSWER)
    async with running_edge(engine) as edge, begun(edge) as (client, head, stream_id):
        engine.go()
        await client.chunk(head)
        answer = await fetch(edge, come_back(stream_id, after))
        assert (answer.status, answer.error["param"]) == (400, param)
        assert (await fetch(edge, come_back(stream_id, query="?after=1x"))).error["param"] == "after"
        engine.go(4)
        await client.body(head)
        assert head.body == numbered(*ANSWER), "its reader was not disturbed"


async def test_only_the_owner_finds_a_stream():
    mine, sister, stranger = new_key(), new_key(), new_key()
    keys = KeySnapshot(
        version=1,
        required=True,
        keys=tuple(
            KeyRecord(id=name, sha256=digest(key), tenant=tenant)
            for name, key, tenant in (("k1", mine, "a"), ("k2", sister, "a"), ("k3", stranger, "b"))
        ),
        tenants=(Tenant(name="a"), Tenant(name="b")),
    )

    def by(key: str) -> dict[str, Any]:
        return {"authorization": f"Bearer {key}"}

    engine = Steps(*ANSWER)
    async with running_edge(engine, keys=keys) as edge, begun(edge, ask(30, **by(mine))) as (client, head, stream_id):
        engine.go()
        await client.chunk(head)
        for key in (sister, stranger):
            for method in ("GET", "DELETE"):
                answer = await fetch(edge, come_back(stream_id, 0, method=method, **by(key)))
                assert (answer.status, answer.error["code"]) == (404, "not_found")
        assert (await fetch(edge, come_back(stream_id, 0))).status == 401
        engine.go(4)
        await client.body(head)
        assert head.body == numbered(*ANSWER)
        assert (await fetch(edge, come_back(stream_id, 4, **by(mine)))).body == numbered(DONE, first=5)


async def test_ids_that_nobody_made_are_unknown():
    engine = Steps(*ANSWER)
    async with running_edge(engine) as edge, begun(edge) as (_, _, stream_id):
        forged = stream_id[:-1] + ("0" if stream_id[-1] != "0" else "1")
        other_key = StreamIds(edge.parts.shelf.ids.instance, b"k" * 32).new()
        for bad in ("", "x", "hs-", forged, other_key, stream_id.upper(), stream_id + "0", "%00", "a" * 5000):
            for method in ("GET", "DELETE"):
                answer = await fetch(edge, come_back(bad, 0, method=method))
                assert (answer.status, answer.error["code"]) == (404, "not_found"), bad
        ours = edge.parts.shelf.ids.new()
        assert (await fetch(edge, come_back(ours, 0))).status == 410, "made here, and no longer kept"
        was = edge.parts.shelf.ids.instance
        edge.parts.shelf.ids.instance = Instance("test", 0, "1")
        before = edge.parts.shelf.ids.new()
        edge.parts.shelf.ids.instance = was
        assert (await fetch(edge, come_back(before, 0))).status == 410, "of an edge that is gone"
