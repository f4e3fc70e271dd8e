"""A dialect between a source and its engine: other words out, OpenAI's words in, over a real connection."""

from __future__ import annotations

import json

import pytest

from edge.sources.engine import EngineLimits, EngineSource
from edge.sources.ollama import ollama
from edge.streams.contracts import Ending, UpstreamRequest
from streamkit.wire.backend import OllamaOptions
from streamkit.wire.errors import Code
from streamkit.wire.events import Mark
from tests.unit.edge.scripted import candidate
from tests.unit.edge.sources.engines import CHUNKED, LAST, Client, Engine, Line, Sink, chunk, client

pytestmark = pytest.mark.anyio
CHAT = {"model": "m", "messages": [{"role": "user", "content": "Hi"}]}
NDJSON = b"HTTP/1.1 200 OK\r\ncontent-type: application/x-ndjson\r\n" + CHUNKED


def native(edge: Client) -> EngineSource:
    limits = EngineLimits(max_event_bytes=4096, max_response_bytes=1 << 20)
    return EngineSource(candidate(), edge.pool, limits, edge.account, ollama(OllamaOptions(num_ctx=4096)))


def asked(body: dict[str, object], *, stream: bool = True) -> UpstreamRequest:
    headers = ((b"x-request-id", b"r1"),)
    sent = json.dumps({**body, "stream": stream}).encode()
    return UpstreamRequest(path=b"/v1/chat/completions", body=sent, stream=stream, headers=headers)


def said(content: str, **members: object) -> bytes:
    return json.dumps({"model": "m", "message": {"content": content}, "done": False, **members}).encode() + b"\n"


async def test_other_words_go_out_and_openais_come_in() -> None:
    async def script(line: Line) -> None:
        await line.send(NDJSON, chunk(said("a")), chunk(said("", done=True, done_reason="stop")), LAST)

    async with Engine(script) as engine, client(engine.url) as edge:
        sink = Sink()
        native(edge).open(asked(CHAT), sink)
        outcome = await sink.ended()
        head, body = engine.requests[0]
    assert head.startswith(b"POST /api/chat HTTP/1.1\r\n")
    assert b"accept: application/x-ndjson\r\n" in head
    assert json.loads(body)["options"] == {"num_ctx": 4096}
    assert outcome.ending is Ending.END
    events = [event for batch in sink.batches for event in batch.split()]
    assert events[-1].marks == Mark.DONE
    assert b'"id":"chatcmpl-r1"' in events[0].data


async def test_what_was_whole_before_a_malformed_line_is_delivered_and_the_connection_closed() -> None:
    async def script(line: Line) -> None:
        await line.send(NDJSON, chunk(said("a") + b"<html>\n"))
        await line.gone()

    async with Engine(script) as engine, client(engine.url) as edge:
        sink = Sink()
        native(edge).open(asked(CHAT), sink)
        outcome = await sink.ended()
    assert outcome.ending is Ending.BROKEN
    assert outcome.error is not None
    assert (outcome.error.code, "<html>" in outcome.error.message) == (Code.STREAM_BROKEN, False)
    assert b'"content":"a"' in sink.batches[0].data


async def test_a_line_over_its_bound_closes_the_connection() -> None:
    async def script(line: Line) -> None:
        await line.send(NDJSON, chunk(said("x" * 5000)))
        await line.gone()

    async with Engine(script) as engine, client(engine.url) as edge:
        sink = Sink()
        native(edge).open(asked(CHAT), sink)
        outcome = await sink.ended()
    assert outcome.error is not None
    assert outcome.error.code is Code.EVENT_TOO_LARGE


@pytest.mark.parametrize(
    ("status", "body", "told"),
    [
        (200, said("a", done=True, done_reason="stop"), (Ending.ANSWER, 200)),
        (404, b'{"error":"model not found"}', (Ending.ANSWER, 404)),
        (200, said("a"), (Ending.BROKEN, 200)),
        (200, b"<html>", (Ending.BROKEN, 200)),
    ],
)
async def test_whole_answers(status: int, body: bytes, told: tuple[Ending, int]) -> None:
    head = b"HTTP/1.1 %d X\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % (status, len(body))

    async def script(line: Line) -> None:
        await line.send(head + body)

    async with Engine(script) as engine, client(engine.url) as edge:
        sink = Sink()
        native(edge).open(asked(CHAT, stream=False), sink)
        outcome = await sink.ended()
    assert (outcome.ending, outcome.status) == told
    if outcome.ending is Ending.ANSWER:
        assert set(json.loads(outcome.body)) & {"choices", "error"}


async def test_what_cannot_be_said_is_over_before_a_connection_is_made() -> None:
    async def script(line: Line) -> None:
        raise AssertionError("nobody is asked")

    async with Engine(script) as engine, client(engine.url) as edge:
        sink = Sink()
        attempt = native(edge).open(asked({**CHAT, "logit_bias": {"1": 1}}), sink)
        attempt.pause()
        attempt.resume()
        attempt.cancel()
        outcome = await sink.ended()
        assert not engine.lines
    assert (outcome.ending, outcome.unfit) == (Ending.BROKEN, True)
    assert outcome.error is not None
    assert outcome.error.param == "logit_bias"
