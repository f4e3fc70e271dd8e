"""Spans of sampled streams, as a real receiver of OTLP over HTTP gets them, and what engines are told."""

from __future__ import annotations

import asyncio
import logging
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import msgspec
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

from streamkit.ops import catalog
from streamkit.wire.route import Candidate, RouteAnswer
from tests.support.inprocess import DONE, MODEL, ScriptedExchange, chunk, finish, running_edge, until
from tests.support.raw import Raw, post

pytestmark = pytest.mark.anyio
ROOT = Path(__file__).parents[2]
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = "00f067aa0ba902b7"
USAGE = (
    b'data: {"id":"1","object":"chat.completion.chunk","choices":[],"usage":'
    b'{"prompt_tokens":3,"completion_tokens":2,"total_tokens":5}}\n\n'
)


class Receiver:
    """Takes spans as an OpenTelemetry collector does."""

    def __init__(self) -> None:
        self.spans: list[Any] = []
        self.resources: list[dict[str, str]] = []
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                if self.headers.get("content-encoding") == "gzip":
                    import gzip

                    body = gzip.decompress(body)
                receiver.take(ExportTraceServiceRequest.FromString(body))
                answer = ExportTraceServiceResponse().SerializeToString()
                self.send_response(200)
                self.send_header("content-type", "application/x-protobuf")
                self.send_header("content-length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/v1/traces"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()

    def take(self, request: ExportTraceServiceRequest) -> None:
        for resource in request.resource_spans:
            self.resources.append(attributes(resource.resource))
            for scope in resource.scope_spans:
                self.spans += scope.spans

    def stop(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def attributes(of: Any) -> dict[str, Any]:
    return {one.key: getattr(one.value, one.value.WhichOneof("value")) for one in of.attributes}


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    ours = Receiver()
    yield ours
    ours.stop()


async def answers(exchange: ScriptedExchange) -> None:
    await exchange.stream(chunk("a"), chunk("b"), finish(), USAGE, DONE)


def one_at_a_time(candidates: Sequence[Candidate]) -> RouteAnswer:
    single = tuple(msgspec.structs.replace(candidate, max_inflight=1) for candidate in candidates)
    return RouteAnswer(decision_id="d", ttl_ms=600_000, candidates=single, snapshot=1)


def asked(**headers: str) -> bytes:
    return post({"model": MODEL, "stream": True}, headers={"traceparent": f"00-{TRACE}-{PARENT}-00", **headers})


async def test_a_stream_and_its_attempt_are_spans_of_the_client_s_trace(
    receiver: Receiver, caplog: pytest.LogCaptureFixture
):
    caplog.set_level(logging.INFO, "headrace.edge.stream")
    async with running_edge(answers, traces_url=receiver.url, traces_ratio=1.0) as edge, Raw.to(edge.url) as client:
        await client.ask(asked(tracestate="a=b"))
        await edge.quiet()
        (exchange,) = edge.engine.exchanges
    # An edge that ends sends what is left.
    assert edge.parts.metrics.value(catalog.SPANS, "exported") == 2
    by_parent = {span.parent_span_id.hex(): span for span in receiver.spans}
    whole = by_parent[PARENT]
    attempt = by_parent[whole.span_id.hex()]
    assert {span.trace_id.hex() for span in receiver.spans} == {TRACE}
    assert (whole.name, attempt.name) == (f"chat {MODEL}", f"chat {MODEL}")
    assert (whole.kind, attempt.kind) == (2, 3)  # server, client
    assert whole.start_time_unix_nano <= attempt.start_time_unix_nano <= attempt.end_time_unix_nano
    assert attempt.end_time_unix_nano <= whole.end_time_unix_nano
    # The engine's spans belong below the attempt; what else came with the request goes on as it is.
    assert exchange.headers["traceparent"] == f"00-{TRACE}-{attempt.span_id.hex()}-01"
    assert exchange.headers["tracestate"] == "a=b"
    told = attributes(attempt)
    assert told["gen_ai.operation.name"] == "chat"
    assert told["gen_ai.request.model"] == MODEL
    assert told["gen_ai.usage.output_tokens"] == 2
    assert told["headrace.outcome"] == "done"
    assert told["gen_ai.response.time_to_first_chunk"] > 0
    assert "error.type" not in told
    assert attributes(whole)["headrace.outcome"] == "finished"
    assert receiver.resources[0]["service.name"] == "headrace-edge"
    (line,) = [record.headrace_fields for record in caplog.records if record.message == "stream.end"]
    assert line["trace_id"] == TRACE


async def test_the_wait_in_line_is_a_span_and_a_failure_says_why(receiver: Receiver):
    go = asyncio.Event()

    async def waits(exchange: ScriptedExchange) -> None:
        await go.wait()
        await exchange.stream(chunk("a"))  # and no end

    async with (
        running_edge(waits, route=one_at_a_time, traces_url=receiver.url, traces_ratio=1.0) as edge,
        Raw.to(edge.url) as first,
        Raw.to(edge.url) as second,
    ):
        await first.send(asked())
        await edge.engine.asked()
        await second.send(asked())
        await until(lambda: edge.parts.means.room.busy, "the second one waits in line")
        go.set()
        for client in (first, second):
            await client.body(await client.head())
        await edge.quiet()
    assert edge.parts.metrics.value(catalog.SPANS, "exported") == 5
    (queue,) = [span for span in receiver.spans if span.name == "queue"]
    (whole,) = [span for span in receiver.spans if span.span_id == queue.parent_span_id]
    assert queue.end_time_unix_nano - queue.start_time_unix_nano == pytest.approx(
        attributes(whole)["headrace.queued_ms"] * 1e6, rel=0.02, abs=2e4
    )
    assert attributes(whole)["error.type"] == "stream_broken"
    assert whole.status.code == 2


async def test_what_is_not_sampled_is_forwarded_as_it_came(receiver: Receiver):
    async with running_edge(answers, traces_url=receiver.url, traces_ratio=0.0) as edge, Raw.to(edge.url) as client:
        await client.ask(asked())
        await edge.quiet()
        (exchange,) = edge.engine.exchanges
    assert exchange.headers["traceparent"] == f"00-{TRACE}-{PARENT}-00"
    assert receiver.spans == []


@pytest.mark.parametrize("given", ["", "00-0-0-00", f"00-{'0' * 32}-{PARENT}-01", f"ff-{TRACE}-{PARENT}-01"])
async def test_without_a_trace_of_the_client_s_there_is_one_of_ours(receiver: Receiver, given: str):
    headers = {"traceparent": given} if given else {}
    async with running_edge(answers, traces_url=receiver.url, traces_ratio=1.0) as edge, Raw.to(edge.url) as client:
        await client.ask(post({"model": MODEL, "stream": True}, headers=headers))
        await edge.quiet()
    (whole,) = [span for span in receiver.spans if not span.parent_span_id]
    assert whole.trace_id.hex() != "0" * 32
    assert len(receiver.spans) == 2


@pytest.mark.slow
async def test_a_receiver_that_is_away_costs_spans_and_nothing_else():
    """Its deadline is what makes the test slow."""
    where = "http://127.0.0.1:9/v1/traces"
    async with running_edge(answers, traces_url=where, traces_ratio=1.0) as edge, Raw.to(edge.url) as client:
        answer = await client.ask(asked())
        assert answer.body.endswith(DONE)
        await edge.quiet()
        metrics = edge.parts.metrics
        await until(lambda: metrics.value(catalog.SPANS, "lost") == 2, "both are given up")


def test_nothing_of_it_is_loaded_unless_it_is_asked_for():
    program = "import sys, edge.run; print([name for name in sys.modules if name.startswith('opentelemetry')])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "[]"
