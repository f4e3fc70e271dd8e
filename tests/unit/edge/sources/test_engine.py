"""Exchanges with real servers on loopback, on both event loops: every way an engine can answer or fail to."""

from __future__ import annotations

import asyncio
import logging
import socket

import pytest

from edge.sources import engine as module
from edge.streams.contracts import Ending
from streamkit.wire.backend import Cancels
from streamkit.wire.errors import Code
from streamkit.wire.events import Mark
from tests.support.timing import MS
from tests.unit.edge.scripted import DONE, ROLE, delta, finish, turning
from tests.unit.edge.sources.engines import (
    CHUNKED,
    JSON_HEAD,
    LAST,
    STREAM_HEAD,
    Engine,
    Line,
    Script,
    Sink,
    chunk,
    client,
)

pytestmark = pytest.mark.anyio
ANSWER = ROLE + delta("hello") + delta("日本") + finish() + DONE
ONE_CHUNK = STREAM_HEAD + CHUNKED + chunk(ANSWER) + LAST
KEEPS_ON = Cancels(stream=False, nonstream=False)


def cut(data: bytes, size: int) -> list[bytes]:
    return [data[at : at + size] for at in range(0, len(data), size)]


def says(*pieces: bytes, close: bool = False) -> Script:
    async def script(line: Line) -> bool:
        await line.send(*pieces)
        return not close

    return script


async def nothing(line: Line) -> bool:
    """Never answer; wait for the client to go."""
    await line.gone()
    return False


FRAMINGS = {
    "chunked": says(STREAM_HEAD + CHUNKED, *map(chunk, (ROLE, delta("hello"), delta("日本"), finish(), DONE)), LAST),
    "one chunk": says(ONE_CHUNK),
    "chunks cut anywhere": says(STREAM_HEAD + CHUNKED, *(chunk(part) for part in cut(ANSWER, 7)), LAST),
    "byte by byte": says(*cut(ONE_CHUNK, 1)),
    "with trailers": says(STREAM_HEAD + CHUNKED + chunk(ANSWER) + b"0\r\nx-trailer: 1\r\n\r\n"),
    "length": says(STREAM_HEAD + b"content-length: %d\r\n\r\n" % len(ANSWER) + ANSWER),
    "until close": says(STREAM_HEAD + b"\r\n", ANSWER, close=True),
    "http/1.0": says(STREAM_HEAD.replace(b"1.1", b"1.0") + b"\r\n" + ANSWER, close=True),
    "behind 1xx": says(
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n", ONE_CHUNK
    ),
    "shouting": says(ONE_CHUNK.replace(b"text/event-stream", b"Text/Event-Stream")),
}  # fmt: skip


@pytest.mark.parametrize("framing", FRAMINGS)
async def test_a_stream_in_every_framing(framing: str) -> None:
    async with Engine(FRAMINGS[framing]) as engine, client(engine.url) as edge:
        sink, outcome = await edge.ask()
        assert outcome.ending is Ending.END
        assert (outcome.status, outcome.error, outcome.stale) == (200, None, False)
        assert sink.text == ANSWER
        events = [event for batch in sink.batches for event in batch.split()]
        assert [event.marks for event in events] == [0, 0, 0, Mark.FINISH, Mark.DONE]


@pytest.mark.parametrize("size", [0, 1, 5_000, 200_000])
@pytest.mark.parametrize("framing", ["chunked", "length", "until close"])
async def test_a_whole_answer_in_every_framing(size: int, framing: str) -> None:
    body = b'"' + b"x" * size + b'"'
    script = {
        "chunked": says(
            JSON_HEAD + CHUNKED, *(chunk(body[at : at + 3000]) for at in range(0, len(body), 3000)), LAST
        ),
        "length": says(JSON_HEAD + b"content-length: %d\r\n\r\n" % len(body), body),
        "until close": says(JSON_HEAD + b"\r\n", body, close=True),
    }[framing]
    async with Engine(script) as engine, client(engine.url) as edge:
        sink, outcome = await edge.ask(stream=False)
        assert (outcome.ending, outcome.status, outcome.body) == (Ending.ANSWER, 200, body)
        assert outcome.content_type == b"application/json"
        assert sink.batches == []


async def test_the_request_as_the_engine_gets_it() -> None:
    async with Engine(FRAMINGS["chunked"]) as engine, client(engine.url + "/prefix/") as edge:
        for stream, body in ((True, b'{"model":"m"}'), (False, b"x" * 100_000)):
            sink = Sink()
            edge.open(sink, stream=stream, body=body)
            await sink.ended()
            head, received = engine.requests[-1]
            first, *rows = head.decode().split("\r\n")
            assert first == "POST /prefix/v1/chat/completions HTTP/1.1"
            headers = dict(row.split(": ", 1) for row in rows if row)
            assert headers == {
                "host": f"127.0.0.1:{engine.port}",
                "content-type": "application/json",
                "content-length": str(len(body)),
                "accept": "text/event-stream" if stream else "application/json",
                "authorization": "Bearer k3y",
                "x-request-id": "r1",
            }
            assert received == body


async def test_a_refusal_of_a_stream_is_a_whole_answer() -> None:
    body = b'{"error":{"message":"no","code":400}}'
    refusal = b"HTTP/1.1 400 Bad Request\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(body)
    async with Engine(says(refusal + body)) as engine, client(engine.url) as edge:
        sink, outcome = await edge.ask()
        assert (outcome.ending, outcome.status, outcome.body) == (Ending.ANSWER, 400, body)
        assert sink.batches == []


@pytest.mark.parametrize("kind", [b"application/json", b"text/html", b""])
async def test_a_200_of_another_kind_is_no_event_stream(kind: bytes) -> None:
    head = b"HTTP/1.1 200 OK\r\n" + (b"content-type: %b\r\n" % kind if kind else b"") + CHUNKED
    async with Engine(says(head + chunk(ANSWER) + LAST)) as engine, client(engine.url) as edge:
        sink, outcome = await edge.ask()
        assert (outcome.ending, outcome.content_type, sink.batches) == (Ending.ANSWER, kind, [])


@pytest.mark.parametrize("status", [204, 304])
async def test_answers_without_a_body_end_at_once(status: int) -> None:
    async with Engine(says(b"HTTP/1.1 %d No\r\n\r\n" % status)) as engine, client(engine.url) as edge:
        _, outcome = await edge.ask(stream=False)
        assert (outcome.ending, outcome.status, outcome.body) == (Ending.ANSWER, status, b"")


async def test_a_huge_refusal_is_not_kept_whole() -> None:
    body = b"x" * 1_000_000
    head = b"HTTP/1.1 500 No\r\ncontent-length: %d\r\n\r\n" % len(body)
    async with Engine(says(head, body)) as engine, client(engine.url) as edge:
        _, outcome = await edge.ask()
        assert (outcome.ending, outcome.status) == (Ending.ANSWER, 500)
        assert outcome.body == body[: 64 * 1024], "its beginning, without holes"
        assert edge.budget.high_water <= 64 * 1024


# Keep-alive


async def test_a_connection_serves_one_exchange_after_the_other() -> None:
    async with Engine(FRAMINGS["chunked"]) as engine, client(engine.url) as edge:
        for _ in range(3):
            sink, outcome = await edge.ask()
            assert outcome.ending is Ending.END
            assert sink.text == ANSWER
            assert (edge.pool.idle, edge.pool.active) == (1, 0)
        assert len(engine.lines) == 1


@pytest.mark.parametrize("framing", ["until close", "http/1.0"])
async def test_a_connection_that_must_close_is_not_kept(framing: str) -> None:
    async with Engine(FRAMINGS[framing]) as engine, client(engine.url) as edge:
        await edge.ask()
        await edge.ask()
        assert len(engine.lines) == 2
        assert edge.pool.idle == 0


async def test_connection_close_is_honoured() -> None:
    script = says(STREAM_HEAD + b"connection: close\r\n" + CHUNKED + chunk(ANSWER) + LAST)
    async with Engine(script) as engine, client(engine.url) as edge:
        await edge.ask()
        assert edge.pool.idle == 0
        await engine.news.until(lambda: engine.closed == 1)


async def test_a_pooled_connection_closed_in_the_moment_of_reuse_is_stale() -> None:
    async def hang_up(line: Line) -> bool:
        return False

    async with Engine(FRAMINGS["chunked"], hang_up) as engine, client(engine.url) as edge:
        await edge.ask()
        _, outcome = await edge.ask()
        assert (outcome.ending, outcome.stale, outcome.status) == (Ending.BROKEN, True, 0)


async def test_a_new_connection_is_never_stale() -> None:
    async def hang_up(line: Line) -> bool:
        return False

    async with Engine(hang_up) as engine, client(engine.url) as edge:
        _, outcome = await edge.ask()
        assert (outcome.ending, outcome.stale) == (Ending.BROKEN, False)


@pytest.mark.parametrize("first", [b"H", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 100 Continue\r\n\r\n", b"nonsense\r\n"])
async def test_one_byte_of_an_answer_means_that_it_was_not_stale(first: bytes) -> None:
    async with Engine(FRAMINGS["chunked"], says(first, close=True)) as engine, client(engine.url) as edge:
        await edge.ask()
        _, outcome = await edge.ask()
        assert (outcome.ending, outcome.stale) == (Ending.BROKEN, False)


async def test_a_connection_that_the_engine_closed_while_idle_is_not_used_again() -> None:
    async with Engine(FRAMINGS["chunked"]) as engine, client(engine.url) as edge:
        await edge.ask()
        engine.lines[0].writer.close()
        await engine.news.until(lambda: engine.closed == 1)
        await turning(lambda: not edge.pool.idle)
        _, outcome = await edge.ask()
        assert outcome.ending is Ending.END
        assert len(engine.lines) == 2


async def test_an_engine_that_speaks_unasked_loses_its_connection() -> None:
    async with Engine(FRAMINGS["chunked"]) as engine, client(engine.url) as edge:
        await edge.ask()
        await engine.lines[0].send(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
        await engine.news.until(lambda: engine.closed == 1)
        sink, outcome = await edge.ask()
        assert (outcome.ending, sink.text) == (Ending.END, ANSWER)
        assert len(engine.lines) == 2


@pytest.mark.parametrize("extra", [b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi", b"nonsense", b"\r\n\r\n"])
async def test_bytes_behind_a_whole_answer_are_nobodys(extra: bytes) -> None:
    script = says(STREAM_HEAD + CHUNKED + chunk(ANSWER) + LAST + extra)
    async with Engine(script) as engine, client(engine.url) as edge:
        for _ in range(2):
            sink, outcome = await edge.ask()
            assert (outcome.ending, outcome.status, sink.text) == (Ending.END, 200, ANSWER)
        assert len(engine.lines) == (1 if extra.isspace() else 2)


async def test_a_stream_paused_by_its_own_last_read_does_not_poison_the_connection() -> None:
    async with Engine(FRAMINGS["one chunk"]) as engine, client(engine.url) as edge:
        sink = Sink()
        exchange = edge.open(sink)
        sink.on_feed = lambda _: exchange.pause()
        await sink.ended()
        again, outcome = await edge.ask()
        assert (outcome.ending, again.text) == (Ending.END, ANSWER)
        assert len(engine.lines) == 1


# Failures


async def test_nobody_listens() -> None:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        async with client(f"http://127.0.0.1:{sock.getsockname()[1]}") as edge:
            sink, outcome = await edge.ask()
            assert (outcome.ending, outcome.stale, sink.sends) == (Ending.BROKEN, False, 0)
            assert outcome.error is not None
            assert outcome.error.code is Code.BACKEND_ERROR
            assert outcome.error.message == "The backend a cannot be reached: Connection refused."


async def test_a_connection_that_does_not_come() -> None:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        sock.listen(0)
        port = sock.getsockname()[1]
        fillers = [socket.socket() for _ in range(4)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(("127.0.0.1", port))
        async with client(f"http://127.0.0.1:{port}", settings={"connect_s": 30 * MS}) as edge:
            _, outcome = await edge.ask()
            assert outcome.ending is Ending.BROKEN
            assert outcome.error is not None
            assert "within" in outcome.error.message
            assert edge.pool.active == 0
        for filler in fillers:
            filler.close()


async def test_an_error_that_nobody_foresaw_while_connecting_still_ends_the_exchange() -> None:
    async with client("http://a..b:1") as edge:
        _, outcome = await edge.ask()
        assert outcome.ending is Ending.BROKEN
        assert edge.pool.active == 0
    assert not outcome.stale


def resets(*pieces: bytes) -> Script:
    async def script(line: Line) -> bool:
        await line.send(*pieces)
        line.reset()
        return False

    return script


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize(
    "script",
    [
        pytest.param(says(b"HTTP/1.1 200", close=True), id="half a status line"),
        pytest.param(says(STREAM_HEAD, close=True), id="half a head"),
        pytest.param(says(STREAM_HEAD + CHUNKED + chunk(delta()), close=True), id="no last chunk"),
        pytest.param(says(STREAM_HEAD + CHUNKED + chunk(delta())[:-9], close=True), id="half a chunk"),
        pytest.param(says(STREAM_HEAD + CHUNKED + chunk(delta()) + b"zz\r\n"), id="a chunk without a size"),
        pytest.param(says(STREAM_HEAD + b"content-length: 999\r\n\r\n" + delta(), close=True), id="short of length"),
        pytest.param(says(b"\x16\x03\x01 not http\r\n\r\n"), id="another protocol"),
        pytest.param(says(b"HTTP/1.1 abc OK\r\n\r\n"), id="a status that is no number"),
        pytest.param(resets(STREAM_HEAD + CHUNKED + chunk(delta())), id="reset in a chunked body"),
        pytest.param(resets(STREAM_HEAD + b"\r\n" + delta()), id="reset in a body until close"),
        pytest.param(resets(), id="reset before a byte"),
    ],
)  # fmt: skip
async def test_an_answer_that_breaks_off_is_broken(script: Script, stream: bool) -> None:
    async with Engine(script) as engine, client(engine.url) as edge:
        _, outcome = await edge.ask(stream=stream)
        assert (outcome.ending, outcome.stale, outcome.body) == (Ending.BROKEN, False, b"")
        assert outcome.error is not None
        assert outcome.error.code is Code.STREAM_BROKEN
        assert edge.pool.idle == 0


async def test_whole_events_before_the_break_are_delivered_and_half_ones_are_not() -> None:
    script = says(STREAM_HEAD + CHUNKED + chunk(ROLE + delta("a") + delta("b")[:-1]), close=True)
    async with Engine(script) as engine, client(engine.url) as edge:
        sink, outcome = await edge.ask()
        assert (sink.text, outcome.ending) == (ROLE + delta("a"), Ending.BROKEN)


# Bounds. Each answer fails in the read that ends it, and in one before.

TAILS = {"chunked": LAST, "length": b"", "until close": b""}


def sized(head: bytes, framing: str, body: bytes) -> bytes:
    match framing:
        case "chunked":
            return head + CHUNKED + chunk(body) + LAST
        case "length":
            return head + b"content-length: %d\r\n\r\n" % len(body) + body
        case _:
            return head + b"\r\n" + body


@pytest.mark.parametrize("framing", ["chunked", "length", "until close"])
@pytest.mark.parametrize("size", [1001, 300_000])
async def test_an_event_over_the_bound(framing: str, size: int) -> None:
    big = b"data: " + b"x" * (size - 8) + b"\n\n"
    script = says(sized(STREAM_HEAD, framing, delta() + big), close=framing == "until close")
    async with Engine(script) as engine, client(engine.url, max_event_bytes=1000) as edge:
        sink, outcome = await edge.ask()
        assert outcome.ending is Ending.BROKEN
        assert outcome.error is not None
        assert outcome.error.code is Code.EVENT_TOO_LARGE
        assert "max_event_bytes = 1000" in outcome.error.message
        assert b"xxx" not in sink.text
        assert edge.pool.idle == 0


@pytest.mark.parametrize("framing", ["chunked", "length", "until close"])
@pytest.mark.parametrize("size", [1001, 300_000])
async def test_an_answer_over_the_bound_is_never_reported_as_a_whole_one(framing: str, size: int) -> None:
    script = says(sized(JSON_HEAD, framing, b"x" * size), close=framing == "until close")
    async with Engine(script) as engine, client(engine.url, max_response_bytes=1000) as edge:
        _, outcome = await edge.ask(stream=False)
        assert (outcome.ending, outcome.body) == (Ending.BROKEN, b"")
        assert outcome.error is not None
        assert outcome.error.code is Code.BACKEND_ERROR
        assert "max_response_bytes = 1000" in outcome.error.message
        assert edge.budget.high_water <= 1000


@pytest.mark.parametrize("framing", ["chunked", "length", "until close"])
@pytest.mark.parametrize("size", [1001, 300_000])
async def test_an_answer_beyond_the_memory_budget(framing: str, size: int) -> None:
    script = says(sized(JSON_HEAD, framing, b"x" * size), close=framing == "until close")
    async with Engine(script) as engine, client(engine.url, memory_bytes=1000) as edge:
        _, outcome = await edge.ask(stream=False)
        assert (outcome.ending, outcome.body) == (Ending.BROKEN, b"")
        assert outcome.error is not None
        assert outcome.error.code is Code.OUT_OF_MEMORY
        assert edge.budget.refused == 1


async def test_an_answer_at_the_bound_is_taken() -> None:
    script = says(sized(JSON_HEAD, "length", b"x" * 1000))
    async with Engine(script) as engine, client(engine.url, max_response_bytes=1000) as edge:
        _, outcome = await edge.ask(stream=False)
        assert outcome.body == b"x" * 1000
        assert edge.budget.high_water == 1000


async def test_a_bug_above_fails_that_exchange_only(caplog: pytest.LogCaptureFixture) -> None:
    async with Engine(FRAMINGS["chunked"]) as engine, client(engine.url) as edge:
        sink = Sink()
        edge.open(sink)

        def bug(_: object) -> None:
            raise ZeroDivisionError

        sink.on_feed = bug
        with caplog.at_level(logging.CRITICAL + 1, logger="headrace.edge.sources"):
            outcome = await sink.ended()
        assert outcome.ending is Ending.BROKEN
        _, outcome = await edge.ask()
        assert outcome.ending is Ending.END


# Cancel


async def test_cancelled_in_the_turn_that_opened_it() -> None:
    async with Engine(nothing) as engine, client(engine.url) as edge:
        sink = Sink()
        exchange = edge.open(sink)
        exchange.cancel()
        exchange.cancel()
        outcome = await sink.ended()
        assert (outcome.ending, sink.sends) == (Ending.CANCELLED, 0)
        assert edge.pool.active == 0


async def test_cancelled_while_connecting() -> None:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        sock.listen(0)
        port = sock.getsockname()[1]
        fillers = [socket.socket() for _ in range(4)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(("127.0.0.1", port))
        async with client(f"http://127.0.0.1:{port}") as edge:
            sink = Sink()
            exchange = edge.open(sink)
            asyncio.get_running_loop().call_later(5 * MS, exchange.cancel)
            outcome = await sink.ended()
            assert (outcome.ending, sink.sends) == (Ending.CANCELLED, 0)
        for filler in fillers:
            filler.close()


async def test_cancelled_in_the_turn_in_which_the_connection_is_made() -> None:
    async with Engine(nothing) as engine, client(engine.url) as edge:
        sink = Sink()
        exchange = edge.open(sink)
        loop = asyncio.get_running_loop()

        def look() -> None:
            # The pool counts a connection as open one step before the exchange hears of it.
            if edge.pool._open:
                exchange.cancel()
            else:
                loop.call_soon(look)

        look()
        outcome = await sink.ended()
        assert outcome.ending is Ending.CANCELLED
        await engine.news.until(lambda: engine.closed == len(engine.lines) == 1)


@pytest.mark.parametrize("stream", [True, False])
async def test_cancelled_while_waiting_closes_the_connection(stream: bool) -> None:
    async with Engine(nothing) as engine, client(engine.url) as edge:
        sink = Sink()
        exchange = edge.open(sink, stream=stream)
        await engine.news.until(lambda: engine.requests)
        exchange.cancel()
        outcome = await sink.ended()
        assert outcome.ending is Ending.CANCELLED
        await engine.news.until(lambda: engine.closed == 1)
        assert edge.pool.idle == 0


def flows_on(*pieces: bytes) -> Script:
    async def script(line: Line) -> bool:
        await line.send(*pieces)
        await line.gone()
        return False

    return script


@pytest.mark.parametrize(
    "framing", [CHUNKED + chunk(delta()), b"content-length: 9999\r\n\r\n" + delta(), b"\r\n" + delta()]
)
@pytest.mark.parametrize("paused", [False, True])
async def test_cancelled_while_flowing_closes_the_connection(framing: bytes, paused: bool) -> None:
    async with Engine(flows_on(STREAM_HEAD + framing)) as engine, client(engine.url) as edge:
        sink = Sink()
        exchange = edge.open(sink)
        await sink.news.until(lambda: sink.batches)
        if paused:
            exchange.pause()
        exchange.cancel()
        exchange.resume()
        outcome = await sink.ended()
        assert (outcome.ending, outcome.error) == (Ending.CANCELLED, None)
        await engine.news.until(lambda: engine.closed == 1)


async def test_cancelled_from_within_a_feed() -> None:
    async with Engine(FRAMINGS["one chunk"]) as engine, client(engine.url) as edge:
        sink = Sink()
        exchange = edge.open(sink)
        sink.on_feed = lambda _: exchange.cancel()
        outcome = await sink.ended()
        assert outcome.ending is Ending.CANCELLED
        assert edge.pool.idle == 0


async def test_a_whole_answer_cancelled_halfway_gives_its_memory_back() -> None:
    script = flows_on(JSON_HEAD + b"content-length: 9999\r\n\r\n" + b"x" * 500)
    async with Engine(script) as engine, client(engine.url) as edge:
        sink = Sink()
        exchange = edge.open(sink, stream=False)
        await turning(lambda: edge.account.used_bytes)
        exchange.cancel()
        outcome = await sink.ended()
        assert (outcome.ending, outcome.body) == (Ending.CANCELLED, b"")


@pytest.mark.parametrize("stream", [True, False])
async def test_an_engine_that_goes_on_after_a_close_is_read_to_its_end(stream: bool) -> None:
    go = asyncio.Event()
    rest = b"".join(chunk(delta("x" * 900)) for _ in range(200))

    async def script(line: Line) -> bool:
        await line.send((STREAM_HEAD if stream else JSON_HEAD) + CHUNKED + chunk(delta("first")))
        await go.wait()
        await line.send(rest + LAST)
        return True

    async with Engine(script) as engine, client(engine.url, cancels=KEEPS_ON) as edge:
        sink = Sink()
        exchange = edge.open(sink, stream=stream)
        if stream:
            await sink.news.until(lambda: sink.batches)
            exchange.pause()
        else:
            await engine.news.until(lambda: engine.requests)
        exchange.cancel()
        exchange.pause()
        assert sink.outcome is None, "its slot is still taken"
        go.set()
        outcome = await sink.ended()
        assert (outcome.ending, outcome.body) == (Ending.CANCELLED, b"")
        assert sink.text in (delta("first"), b"")
        assert (edge.pool.idle, edge.account.used_bytes) == (1, 0)
        assert engine.closed == 0


async def test_an_engine_that_goes_on_is_not_waited_for_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_LINGER_S", 20 * MS)
    async with Engine(nothing) as engine, client(engine.url, cancels=KEEPS_ON) as edge:
        sink = Sink()
        exchange = edge.open(sink)
        await engine.news.until(lambda: engine.requests)
        exchange.cancel()
        outcome = await sink.ended()
        assert outcome.ending is Ending.CANCELLED
        await engine.news.until(lambda: engine.closed == 1)


async def test_cancelling_what_has_ended_does_nothing() -> None:
    async with Engine(FRAMINGS["chunked"]) as engine, client(engine.url) as edge:
        sink = Sink()
        exchange = edge.open(sink)
        await sink.ended()
        exchange.cancel()
        exchange.pause()
        exchange.resume()
        _, outcome = await edge.ask()
        assert outcome.ending is Ending.END
        assert len(engine.lines) == 1


# Pause


async def test_a_paused_exchange_really_stops_the_engine_and_loses_nothing() -> None:
    event = delta("x" * 60_000)
    count = 160
    sent = 0

    async def script(line: Line) -> bool:
        nonlocal sent
        await line.send(STREAM_HEAD + CHUNKED)
        for _ in range(count):
            await line.send(chunk(event))
            sent += 1
        await line.send(LAST)
        return True

    async with Engine(script) as engine, client(engine.url) as edge:
        sink = Sink()
        exchange = edge.open(sink)

        def pause(_: object) -> None:
            if len(sink.batches) == 1:
                exchange.pause()

        sink.on_feed = pause
        await sink.news.until(lambda: sink.batches)
        taken = len(sink.batches)
        line = engine.lines[0]
        # The engine is stuck once its own buffer stays filled: the kernel takes no more.
        await turning(line.writer.transport.get_write_buffer_size)
        before, still = -1, 0

        def stuck() -> bool:
            nonlocal before, still
            before, still = sent, still + 1 if before == sent else 0
            return still > 300

        await turning(stuck)
        assert len(sink.batches) == taken
        assert sent < count
        exchange.resume()
        outcome = await sink.ended()
        assert outcome.ending is Ending.END
        assert sink.text == event * count


async def test_paused_before_the_connection_is_there() -> None:
    async with Engine(FRAMINGS["chunked"]) as engine, client(engine.url) as edge:
        sink = Sink()
        exchange = edge.open(sink)
        exchange.pause()
        await engine.news.until(lambda: engine.requests)
        for _ in range(20):
            await asyncio.sleep(0)
        assert sink.batches == []
        exchange.resume()
        outcome = await sink.ended()
        assert (outcome.ending, sink.text) == (Ending.END, ANSWER)
