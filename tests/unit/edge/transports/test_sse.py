"""Delivery through our own server's writer, and through any other server."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from time import monotonic

import pytest

from edge.streams.contracts import Reply
from edge.streams.stream import Stream
from edge.transports.sse import deliver
from streamkit.ops.metrics import Metrics
from streamkit.wire.errors import Code, HeadraceError
from tests.unit.edge.scripted import DEADLINE_S, DONE, PING, News, delta, finish, stream, turning
from tests.unit.edge.transports.asgi import Asgi

pytestmark = pytest.mark.anyio


servers = pytest.mark.parametrize("writer", [True, False], ids=["ours", "another"])


class Rig:
    def __init__(
        self,
        *,
        streaming: bool = True,
        writer: bool = False,
        begin: Callable[[Stream], object] | None = None,
        **deadlines: float,
    ) -> None:
        self.stream = stream(Metrics(), streaming=streaming, **deadlines)
        self.asgi = Asgi(writer=writer)
        self.begun = 0
        self.news = News()
        self._begin = begin
        self.task = asyncio.ensure_future(
            deliver(
                self.stream,
                self.asgi.scope,
                self.asgi.receive,
                self.asgi.send,
                begin=self.start,
                headers=lambda: [(b"x-request-id", b"r1")],
                high_bytes=1000,
            )
        )

    def start(self) -> None:
        self.begun += 1
        if self._begin is not None:
            self._begin(self.stream)
        self.news.tell()

    async def begins(self) -> None:
        await self.news.until(lambda: self.begun)

    async def done(self) -> None:
        await asyncio.wait_for(self.task, DEADLINE_S)
        assert self.begun == 1


@servers
async def test_a_stream_from_its_headers_to_its_end(writer: bool) -> None:
    rig = Rig(writer=writer)
    await rig.begins()
    assert rig.asgi.sent == [], "nothing before the first event"
    rig.stream.feed(delta(), 1, monotonic())
    await rig.asgi.news.until(lambda: rig.asgi.bodies)
    rig.stream.feed(finish() + DONE, 2, monotonic())
    await rig.asgi.news.until(lambda: rig.asgi.body.endswith(DONE))
    rig.stream.finish()
    await rig.done()
    assert rig.asgi.status == 200
    assert rig.asgi.headers == {
        b"content-type": b"text/event-stream; charset=utf-8",
        b"cache-control": b"no-cache",
        b"x-accel-buffering": b"no",
        b"x-request-id": b"r1",
    }
    assert rig.asgi.bodies == [delta(), finish() + DONE, b""]
    assert rig.asgi.complete


@servers
async def test_a_stream_that_is_over_before_its_headers_went_out(writer: bool) -> None:
    def at_once(made: Stream) -> None:
        made.feed(delta() + finish() + DONE, 3, monotonic())
        made.finish()

    rig = Rig(begin=at_once, writer=writer)
    await rig.done()
    assert (rig.asgi.status, rig.asgi.body, rig.asgi.complete) == (200, delta() + finish() + DONE, True)


@servers
async def test_headers_go_out_with_a_heartbeat_when_nothing_else_comes(writer: bool) -> None:
    rig = Rig(commit_after_ms=10, writer=writer)
    await rig.asgi.news.until(lambda: rig.asgi.bodies)
    assert rig.asgi.bodies == [PING]
    rig.stream.fail(HeadraceError(Code.BACKEND_ERROR, "no"))
    await rig.asgi.news.until(lambda: rig.asgi.body.endswith(DONE))
    await rig.done()
    assert rig.asgi.status == 200
    assert rig.asgi.body.endswith(DONE)


@servers
@pytest.mark.parametrize("streaming", [True, False])
async def test_a_failure_before_any_event_is_a_status(streaming: bool, writer: bool) -> None:
    rig = Rig(streaming=streaming, writer=writer, begin=lambda made: made.fail(HeadraceError(Code.SATURATED, "full")))
    await rig.done()
    assert rig.asgi.status == 429
    assert rig.asgi.headers[b"content-type"] == b"application/json"
    assert rig.asgi.headers[b"x-request-id"] == b"r1"
    assert b"retry-after-ms" in rig.asgi.headers
    assert rig.asgi.complete


@servers
async def test_a_whole_answer(writer: bool) -> None:
    rig = Rig(streaming=False, writer=writer, begin=lambda made: made.answer(Reply(status=200, body=b"{}")))
    await rig.done()
    assert (rig.asgi.status, rig.asgi.body) == (200, b"{}")


@servers
async def test_a_client_that_leaves_before_anything_was_sent_is_sent_nothing(writer: bool) -> None:
    rig = Rig(writer=writer)
    await rig.begins()
    rig.asgi.leave()
    await rig.done()
    assert rig.asgi.sent == []
    assert rig.stream.state.ended


async def test_a_client_that_left_before_its_request_was_begun() -> None:
    made = stream(Metrics())
    asgi = Asgi(writer=True)
    asgi.leave()
    begun: list[str] = []
    await deliver(
        made,
        asgi.scope,
        asgi.receive,
        asgi.send,
        begin=lambda: begun.append("begin"),
        headers=list,
        high_bytes=1000,
    )
    assert (begun, asgi.sent, made.state.ended) == ([], [], True)


@servers
async def test_a_client_that_leaves_in_the_middle(writer: bool) -> None:
    rig = Rig(writer=writer)
    told: list[str] = []
    rig.stream.on_gone = lambda: told.append("gone")
    await rig.begins()
    rig.stream.feed(delta(), 1, monotonic())
    await rig.asgi.news.until(lambda: rig.asgi.bodies)
    rig.asgi.leave()
    await rig.done()
    assert told == ["gone"]


async def test_a_slow_server_pauses_the_stream() -> None:
    rig = Rig()
    await rig.begins()
    rig.stream.feed(delta(), 1, monotonic())
    await rig.asgi.news.until(lambda: rig.asgi.bodies)
    rig.asgi.stick()
    rig.stream.feed(b"data: " + b"x" * 2000 + b"\n\n", 1, monotonic())
    assert rig.stream.paused
    rig.asgi.unstick()
    await turning(lambda: not rig.stream.paused)
    rig.stream.feed(DONE, 1, monotonic())
    await rig.asgi.news.until(lambda: rig.asgi.body.endswith(DONE))
    rig.stream.finish()
    await rig.done()


async def test_a_reader_that_was_cut_does_not_get_a_clean_end() -> None:
    rig = Rig(slow_reader_ms=15)
    await rig.begins()
    rig.stream.feed(delta(), 1, monotonic())
    await rig.asgi.news.until(lambda: rig.asgi.bodies)
    rig.asgi.stick()
    rig.stream.feed(b"data: " + b"x" * 2000 + b"\n\n", 1, monotonic())
    await asyncio.wait_for(rig.stream.ended(), DEADLINE_S)
    rig.asgi.unstick()
    await rig.done()
    assert not rig.asgi.complete, "law 5: a truncated answer never looks complete"


@servers
async def test_a_cancelled_request_leaves_no_task_behind(writer: bool) -> None:
    rig = Rig(writer=writer)
    await rig.begins()
    rig.stream.feed(delta(), 1, monotonic())
    await rig.asgi.news.until(lambda: rig.asgi.bodies)
    rig.task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await rig.task
    rig.stream.gone()
    rig.stream.close()
    await turning(lambda: len(asyncio.all_tasks()) <= 2)
