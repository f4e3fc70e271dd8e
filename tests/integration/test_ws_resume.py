"""Resumable streams and sockets: either transport may begin a stream, and either may take it over."""

from __future__ import annotations

import asyncio
import json

import pytest

from streamkit.wire.keys import KeyRecord, KeySnapshot, Tenant, digest
from tests.integration.test_resume_peers import SHARED, introduce
from tests.support.inprocess import DONE, ScriptedExchange, chunk, finish, running_edge, until
from tests.support.raw import Raw, post
from tests.support.timing import MS
from tests.support.websocket import opened, request

pytestmark = pytest.mark.anyio


class Paced:
    """An engine that sends a piece for each `release` of `go`."""

    def __init__(self, count: int = 6) -> None:
        self.pieces = [*(chunk(f"t{number}") for number in range(count)), finish(), DONE]
        self.go = asyncio.Semaphore(0)

    def let(self, count: int) -> None:
        for _ in range(count):
            self.go.release()

    async def __call__(self, exchange: ScriptedExchange) -> None:
        await exchange.head()
        for piece in self.pieces:
            await self.go.acquire()
            await exchange.send(piece)
        await exchange.end()


def seqs(messages: list[dict]) -> list[int]:
    return [message["seq"] for message in messages if message["type"] in ("event", "done")]


def follow(stream: str, after: int) -> bytes:
    return post(path=f"/v1/streams/{stream}", method="GET", headers={"last-event-id": str(after)})


async def test_a_socket_that_is_lost_is_resumed_on_another_without_a_gap():
    engine = Paced()
    async with running_edge(engine) as edge:
        engine.let(2)
        async with opened(edge.url) as first:
            await first.start("a", resume=30)
            started = await first.next("a")
            assert started["stream"].startswith("hs-")
            assert [(await first.event("a"))["seq"] for _ in range(2)] == [1, 2]
            first.connection.transport.abort()
            await until(lambda: not edge.parts.sockets.open)
        engine.let(3)
        async with opened(edge.url) as second:
            await second.say("resume", "b", stream=started["stream"], after=2)
            again = await second.next("b")
            assert (again["type"], again["stream"], again["request_id"]) == (
                "started", started["stream"], started["request_id"],
            )  # fmt: skip
            assert [(await second.event("b"))["seq"] for _ in range(3)] == [3, 4, 5]
            engine.let(3)
            rest = await second.whole("b")
            assert (seqs(rest), rest[-1]["type"]) == ([6, 7, 8], "done")
            # The end was seen, and is told again to whoever asks.
            await second.say("resume", "c", stream=started["stream"], after=8)
            assert [message["type"] for message in await second.whole("c")] == ["started", "done"]
            await second.say("resume", "d", stream=started["stream"])
            assert seqs(await second.whole("d")) == list(range(1, 9))
        assert len(edge.engine.exchanges) == 1
        assert edge.inflight == 0


async def test_a_socket_takes_over_from_sse_and_sse_from_a_socket():
    engine = Paced()
    headers = {"x-headrace-resume": "30"}
    async with running_edge(engine) as edge, Raw.to(edge.url) as client, opened(edge.url) as socket:
        engine.let(2)
        await client.send(post(request(), headers=headers))
        head = await client.head()
        stream = head.headers["x-headrace-stream"]
        while b"id: 2\n" not in head.body:
            await client.chunk(head)
        await socket.say("resume", "a", stream=stream, after=2)
        await client.body(head)
        assert b'"taken_over"' in head.body
        engine.let(2)
        assert [(await socket.event("a"))["seq"] for _ in range(2)] == [3, 4]
        async with Raw.to(edge.url) as third:
            await third.send(follow(stream, 4))
            answer = await third.head()
            error = (await socket.whole("a"))[-1]
            assert (error["status"], error["error"]["code"]) == (409, "taken_over")
            engine.let(4)
            await third.body(answer)
            assert [line for line in answer.body.split(b"\n") if line.startswith(b"id:")] == [
                b"id: %d" % number for number in (5, 6, 7, 8)
            ]
        # The socket is unharmed.
        await socket.say("resume", "a", stream=stream, after=6)
        assert seqs(await socket.whole("a")) == [7, 8]


async def test_cancel_stops_a_resumable_stream_for_good():
    engine = Paced()
    async with running_edge(engine) as edge, opened(edge.url) as socket:
        engine.let(1)
        await socket.start("a", resume=30)
        stream = (await socket.next("a"))["stream"]
        await socket.event("a")
        await socket.say("cancel", "a")
        assert await socket.whole("a") == [{"type": "cancelled", "id": "a"}]
        await edge.engine.last.closed.wait()
        await socket.say("resume", "b", stream=stream, after=1)
        (error,) = await socket.whole("b")
        assert error["status"] in (404, 410)
        await edge.quiet()


async def test_a_stop_from_elsewhere_is_told():
    engine = Paced()
    async with running_edge(engine) as edge, opened(edge.url) as socket, Raw.to(edge.url) as client:
        engine.let(1)
        await socket.start("a", resume=30)
        stream = (await socket.next("a"))["stream"]
        await socket.event("a")
        await client.send(post(path=f"/v1/streams/{stream}", method="DELETE"))
        assert (await client.head()).status == 204
        assert [message["type"] for message in await socket.whole("a")] == ["error"]
        await edge.quiet()


async def test_a_reader_without_credit_is_let_go_and_finds_its_stream_again():
    engine = Paced()
    async with running_edge(engine, slow_reader_ms=int(200 * MS * 1000)) as edge, opened(edge.url) as socket:
        engine.let(3)
        await socket.start("a", resume=30, credit=1)
        stream = (await socket.next("a"))["stream"]
        assert (await socket.event("a"))["seq"] == 1
        (error,) = await socket.whole("a")
        assert error["error"]["code"] == "slow_reader"
        assert edge.inflight == 1, "the stream goes on"
        await socket.say("resume", "a", stream=stream, after=1, credit=1 << 20)
        engine.let(5)
        assert seqs(await socket.whole("a")) == list(range(2, 9))


async def test_others_and_forgers_find_nothing():
    record = [KeyRecord(id=key, sha256=digest(key), tenant="t") for key in ("mine", "other")]
    keys = KeySnapshot(required=True, tenants=(Tenant(name="t"),), keys=tuple(record))
    engine = Paced()

    def as_(key: str) -> dict:
        return {"additional_headers": {"authorization": f"Bearer {key}"}}

    async with (
        running_edge(engine, keys=keys) as edge,
        opened(edge.url, **as_("mine")) as mine,
        opened(edge.url, **as_("other")) as other,
    ):
        engine.let(1)
        await mine.start("a", resume=30)
        stream = (await mine.next("a"))["stream"]
        await mine.event("a")
        await other.say("resume", "x", stream=stream)
        theirs = await other.next("x")
        await mine.say("resume", "x", stream=stream[:-1] + ("0" if stream[-1] != "0" else "1"))
        forged = await mine.next("x")
        assert (theirs["status"], forged["status"]) == (404, 404)
        assert theirs["error"] == forged["error"]
        await mine.say("resume", "y", stream=stream, after=77)
        assert (await mine.next("y"))["status"] == 400
        engine.let(7)
        assert (await mine.whole("a"))[-1]["type"] == "done"


async def test_the_window_is_a_limit_in_words_and_in_time():
    engine = Paced()
    async with running_edge(engine, resume_max_ms=1_000) as edge, opened(edge.url) as socket:
        await socket.start("a", resume=2)
        error = (await socket.next("a"))["error"]
        assert (error["param"], "from 1 to 1" in error["message"]) == ("resume", True)
        engine.let(1)
        async with opened(edge.url) as lost:
            await lost.start("a", resume=1)
            stream = (await lost.next("a"))["stream"]
            await lost.event("a")
        await until(lambda: not edge.inflight)
        await socket.say("resume", "b", stream=stream, after=1)
        assert (await socket.next("b"))["status"] == 410
        await edge.quiet()
    async with running_edge(engine, resume_max_ms=0) as edge, opened(edge.url) as socket:
        await socket.start("a", resume=1)
        assert "turned off" in json.dumps(await socket.next("a"))


async def test_a_socket_resumes_and_stops_streams_of_another_instance(tmp_path):
    engine = Paced()
    common = {"keys": SHARED, "node": "n", "peer_dir": str(tmp_path / "peers")}
    async with (
        running_edge(engine, **common) as owner,
        running_edge(**common) as other,
        opened(owner.url) as first,
        opened(other.url) as second,
    ):
        await introduce(other, owner)
        engine.let(1)
        await first.start("a", resume=30)
        stream = (await first.next("a"))["stream"]
        await first.event("a")
        await second.say("resume", "a", stream=stream, after=1)
        assert (await second.next("a"))["stream"] == stream
        assert (await first.whole("a"))[-1]["error"]["code"] == "taken_over"
        engine.let(7)
        assert seqs(await second.whole("a")) == list(range(2, 9))
        # Its end was read already.
        await second.say("resume", "a", stream=stream, after=8)
        assert (await second.whole("a"))[-1] == {"type": "done", "id": "a", "seq": 8}
        await second.say("resume", "a", stream=stream, after=99)
        assert (await second.whole("a"))[-1]["status"] == 400
        engine.let(1)
        await first.start("b", resume=30)
        stream = (await first.next("b"))["stream"]
        await first.event("b")
        await second.say("resume", "b", stream=stream, after=1)
        assert (await second.next("b"))["type"] == "started"
        await second.say("cancel", "b")
        assert await second.whole("b") == [{"type": "cancelled", "id": "b"}]
        await until(owner.engine.last.closed.is_set, "the engine is stopped")
        await second.say("resume", "b", stream=stream, after=1)
        assert (await second.whole("b"))[-1]["status"] in (404, 410)
        await other.quiet()
