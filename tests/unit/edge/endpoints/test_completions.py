"""From an ASGI request to its answer, with scripted routes and engines."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from edge.endpoints.access import Access
from edge.endpoints.completions import serve_completion
from edge.endpoints.limits import TenantLimits
from edge.endpoints.parts import OpenStreams, Parts, Sockets
from edge.protocol.request import Operation, parse
from edge.relay.continuation import Continuations
from edge.relay.hedge import Hedging
from edge.relay.leg import LegTimings
from edge.relay.means import Means, RelaySettings
from edge.relay.waiting import WaitingRoom, WaitingSettings
from edge.settings import EdgeSettings
from edge.sources.peers import Peers
from edge.streams.meters import StreamMetersCache
from edge.streams.shelf import Shelf, ShelfSettings
from edge.transports.http import ClientGoneError
from streamkit.flow.budget import Budget
from streamkit.flow.line import Line
from streamkit.flow.retry_budget import RetryBudget
from streamkit.ops import catalog
from streamkit.ops.events import EventFeed
from streamkit.ops.metrics import Metrics
from streamkit.wire.backend import Capabilities
from streamkit.wire.errors import Code, HeadraceError
from streamkit.wire.ids import Instance, StreamIds
from streamkit.wire.keys import KeySnapshot
from streamkit.wire.route import RouteAnswer, RouteRequest, Shed
from tests.unit.edge.relay.rig import backends
from tests.unit.edge.scripted import (
    DEADLINE_S,
    DONE,
    NEVER_S,
    ROLE,
    USAGE,
    Source,
    Upstream,
    candidate,
    delta,
    finish,
    timings,
)
from tests.unit.edge.transports.asgi import Asgi, body

pytestmark = pytest.mark.anyio
CHAT = b'{"model":"m","stream":true,"messages":[{"role":"user","content":"secret words"}]}'
JSON = {"content-type": "application/json"}


class Known:
    snapshot = None
    age_ms = None
    away = True


class Routes:
    def __init__(self, answer: RouteAnswer) -> None:
        self.answer = answer
        self.asked: list[RouteRequest] = []

    def cached(self, request: RouteRequest) -> RouteAnswer | None:
        return None

    async def route(self, request: RouteRequest) -> RouteAnswer:
        self.asked.append(request)
        return self.answer


class Rig:
    def __init__(self, answer: RouteAnswer | None = None, **fields: Any) -> None:
        one = candidate("a", **fields)
        self.metrics = Metrics()
        self.memory = Budget(1 << 20)
        self.backends = backends(self.metrics)
        self.source = Source()
        self.backends.of(one).source = self.source
        self.routes = Routes(answer or RouteAnswer(decision_id="d", ttl_ms=1, candidates=(one,)))
        self.streams = OpenStreams()
        self.feed = EventFeed()
        access = Access(lambda: 0.0)
        access.update(KeySnapshot())
        room = WaitingRoom(Line(bound=0, ageing_ms=0), WaitingSettings(queue_s=0, evict_classes=0), self.metrics)
        means = Means(
            backends=self.backends,
            room=room,
            hedging=Hedging(room, RetryBudget(), self.metrics),
            continuations=Continuations(
                self.backends, self.memory.account("continuation"), max_bytes=1, metrics=self.metrics
            ),
            budget=RetryBudget(),
            settings=RelaySettings(
                max_attempts=3,
                finish_grace_s=0.01,
                legs=LegTimings(first_event_s=NEVER_S, idle_s=NEVER_S, response_s=NEVER_S),
            ),
            metrics=self.metrics,
        )
        self.parts = Parts(
            access=access,
            limits=TenantLimits(self.metrics, burst_ms=5_000),
            routes=self.routes,  # type: ignore[arg-type]
            state=Known(),
            backends=self.backends,
            means=means,
            bodies=self.memory.account("bodies"),
            sockets=Sockets(
                limits=EdgeSettings().socket_limits(),
                frames=self.memory.account("frames"),
                max_streams=1,
                credit_bytes=0,
            ),
            timings=timings(),
            metrics=self.metrics,
            meters=StreamMetersCache(self.metrics),
            feed=self.feed,
            streams=self.streams,
            shelf=Shelf(
                StreamIds(Instance("test", 0, "1"), bytes(32)),
                ShelfSettings(longest_s=60, ring_bytes=1 << 16, rings_bytes=1 << 19, slow_reader_s=NEVER_S),
                self.memory.account("rings"),
                self.metrics,
            ),
            peers=Peers(
                "test",
                EdgeSettings().pool_settings(),
                EdgeSettings().peer_limits(),
                None,
                self.metrics,
            ),
            region="",
            max_body_bytes=1000,
            write_high_bytes=1000,
        )

    async def serve(self, asgi: Asgi, operation: Operation = Operation.CHAT) -> None:
        await asyncio.wait_for(
            serve_completion(self.parts, partial(parse, operation), "r1", asgi.scope, asgi.receive, asgi.send),
            DEADLINE_S,
        )

    def plays(self, *events: bytes, end: Callable[[Upstream], None] = Upstream.finish) -> None:
        def play(upstream: Upstream) -> None:
            for event in events:
                upstream.feed(event)
            end(upstream)

        self.source.at_open = play

    def clean(self) -> None:
        assert self.memory.used_bytes == 0
        assert self.streams.count == 0
        assert self.backends.inflight_by_name() == {"a": 0}


async def refused(rig: Rig, asgi: Asgi) -> HeadraceError:
    with pytest.raises(HeadraceError) as caught:
        await rig.serve(asgi)
    assert asgi.sent == []
    rig.clean()
    return caught.value


async def test_a_stream_and_its_one_canonical_line(caplog: pytest.LogCaptureFixture) -> None:
    rig = Rig()
    rig.plays(ROLE, delta(), finish(), USAGE, DONE)
    asgi = Asgi(*body(CHAT), headers=JSON | {"traceparent": "00-1-2-01", "cookie": "no"}, writer=True)
    with rig.feed.subscribe() as told, caplog.at_level(logging.INFO, logger="headrace.edge.stream"):
        await rig.serve(asgi)
        name, data, _ = await anext(told)
    assert (asgi.status, asgi.body) == (200, ROLE + delta() + finish() + DONE)
    assert asgi.headers[b"x-request-id"] == b"r1"
    assert asgi.headers[b"x-headrace-backend"] == b"a"
    assert b"x-headrace-simulated" not in asgi.headers
    assert rig.source.last.request.headers == ((b"x-request-id", b"r1"), (b"traceparent", b"00-1-2-01"))
    fields = json.loads(data)
    assert name == "stream.end"
    expected = {
        "request_id": "r1",
        "operation": "chat",
        "model": "m",
        "stream": True,
        "backend": "a",
        "tenant": "default",
        "outcome": "finished",
        "code": None,
        "error": None,
        "attempts": 1,
        "events": 4,
        "prompt_tokens": 3,
        "completion_tokens": 4,
    }
    assert {key: fields.get(key) for key in expected} == expected
    assert fields["duration_ms"] >= fields["ttft_ms"] >= 0
    timeline = fields["timeline"]
    (attempt,) = timeline["attempts"]
    assert (attempt["backend"], attempt["model"], attempt["why"], attempt["outcome"]) == ("a", "m", "first", "done")
    order = [timeline["routed_ms"], *(attempt[name] for name in ("opened_ms", "sent_ms", "first_ms", "ended_ms"))]
    assert order == sorted(order)
    assert fields["slot_s"] == pytest.approx((attempt["ended_ms"] - attempt["opened_ms"]) / 1000, abs=0.001)
    assert len(caplog.records) == 1
    assert "secret" not in data.decode()
    assert rig.metrics.value(catalog.STREAMS, "chat", "m", "finished", "") == 1
    assert rig.metrics.value(catalog.STREAM_PER_TOKEN, "chat", "headrace", "m") == 1
    assert rig.metrics.value(catalog.STREAM_EVENTS, "m") == 4
    assert rig.metrics.value(catalog.ADDED_DELAY, "chat") == 1
    assert rig.metrics.value(catalog.REQUESTS, "chat", "sse") == 1
    assert rig.metrics.value(catalog.STREAM_LONGEST_GAP, "m") == 1
    rig.clean()


async def test_a_whole_answer_of_a_simulator_is_marked() -> None:
    rig = Rig(capabilities=Capabilities(simulated=True))
    rig.plays(end=lambda upstream: upstream.answer(200, b'{"data":[]}'))
    asgi = Asgi(*body(b'{"model":"m","input":"x"}'), headers=JSON | {"x-sim": "seed=1"}, writer=True)
    await rig.serve(asgi, Operation.EMBEDDINGS)
    assert (asgi.status, asgi.body, asgi.headers[b"x-headrace-simulated"]) == (200, b'{"data":[]}', b"1")
    assert rig.source.last.request.path == b"/v1/embeddings"
    assert (b"x-sim", b"seed=1") in rig.source.last.request.headers
    assert rig.routes.asked == [RouteRequest("m", transport="json")]
    rig.clean()


@pytest.mark.parametrize(
    "kind", [None, "text/plain", "application/x-www-form-urlencoded", "application/jsonp", "xjson"]
)
async def test_only_json_is_taken(kind: str | None) -> None:
    error = await refused(Rig(), Asgi(*body(CHAT), headers={"content-type": kind} if kind else {}))
    assert error.code is Code.UNSUPPORTED_TYPE
    assert "Content-Type: application/json" in error.message


@pytest.mark.parametrize(
    "kind", ["application/json", "Application/JSON; charset=utf-8", "application/vnd.x+json", "application/json ;a=b"]
)
async def test_json_by_any_of_its_names(kind: str) -> None:
    rig = Rig()
    rig.plays(delta(), finish(), DONE)
    asgi = Asgi(*body(CHAT), headers={"content-type": kind}, writer=True)
    await rig.serve(asgi)
    assert asgi.status == 200


@pytest.mark.parametrize("session", ["a b", "ä", "x" * 257])
async def test_a_session_is_short_plain_text(session: str) -> None:
    error = await refused(Rig(), Asgi(*body(CHAT), headers=JSON | {"x-headrace-session": session}))
    assert (error.code, error.param) == (Code.INVALID_REQUEST, "X-Headrace-Session")


@pytest.mark.parametrize(
    ("sent", "code"),
    [(b"", Code.INVALID_REQUEST), (b"{}", Code.INVALID_REQUEST), (b"x" * 1001, Code.TOO_LARGE)],
)
async def test_a_bad_body_is_refused_and_its_memory_given_back(sent: bytes, code: Code) -> None:
    rig = Rig()
    assert (await refused(rig, Asgi(*body(sent), headers=JSON, writer=True))).code is code
    assert rig.routes.asked == []


async def test_a_client_that_leaves_in_its_body() -> None:
    rig = Rig()
    asgi = Asgi(*body(CHAT[:10], more=True), {"type": "http.disconnect"}, headers=JSON, writer=True)
    with pytest.raises(ClientGoneError):
        await rig.serve(asgi)
    rig.clean()


@pytest.mark.parametrize(
    ("shed", "code", "param"),
    [
        (Shed(code="model_not_found", message="no such model"), Code.MODEL_NOT_FOUND, "model"),
        (Shed(code="saturated", message="full", retry_after_ms=70), Code.SATURATED, None),
        (Shed(code="of a later version", message="who knows"), Code.NO_BACKEND, None),
        (None, Code.NO_BACKEND, None),
    ],
)
async def test_a_shed_answer_is_the_clients_error(shed: Shed | None, code: Code, param: str | None) -> None:
    rig = Rig(RouteAnswer(decision_id="d", ttl_ms=1, shed=shed))
    error = await refused(rig, Asgi(*body(CHAT), headers=JSON, writer=True))
    assert (error.code, error.param) == (code, param)
    if shed is not None:
        assert error.message == shed.message
        assert shed.retry_after_ms in (None, error.retry_after_ms)
    assert rig.source.opened == []


async def test_a_shed_is_told_with_who_and_why_and_a_request_that_is_at_fault_is_not() -> None:
    rig = Rig(RouteAnswer(decision_id="d", ttl_ms=1, shed=Shed(code="saturated", message="full")))
    with rig.feed.subscribe() as told:
        await refused(rig, Asgi(*body(CHAT), headers=JSON, writer=True))
        name, data, _ = await anext(told)
    fields = json.loads(data)
    assert (name, fields["request_id"], fields["tenant"], fields["code"]) == (
        "stream.shed",
        "r1",
        "default",
        "saturated",
    )
    assert "secret" not in data.decode()
    rig = Rig(RouteAnswer(decision_id="d", ttl_ms=1, shed=Shed(code="model_not_found", message="no such")))
    await refused(rig, Asgi(*body(CHAT), headers=JSON, writer=True))
    assert rig.feed.history_bytes == 0


async def test_a_probe_reaches_the_backend_that_it_names_and_is_in_no_users_figures() -> None:
    rig = Rig()
    rig.plays(ROLE, delta(), finish(), USAGE, DONE)
    asgi = Asgi(*body(CHAT), headers=JSON | {"x-headrace-probe": "a"}, writer=True)
    with rig.feed.subscribe() as told:
        await rig.serve(asgi)
        name, data, _ = await anext(told)
    assert asgi.status == 200
    assert (name, json.loads(data)["operation"]) == ("probe.end", "chat")
    assert [question.backend for question in rig.routes.asked] == ["a"]
    # Times of attempts have the operation `probe`; all else is left alone.
    page = rig.metrics.exposition()[0].decode()
    assert 'gen_ai_client_operation_duration_seconds_count{backend="a"' in page
    assert 'gen_ai_operation_name="probe"' in page
    assert 'gen_ai_operation_name="chat"' not in page
    for series in ("headrace_streams_total{", "headrace_stream_events_total{", "headrace_attempts_total{"):
        assert series not in page
    for series in ("gen_ai_server_", "gen_ai_client_token_usage", "headrace_stream_gap_seconds_bucket"):
        assert series not in page
    rig.clean()


async def test_a_client_that_leaves_is_counted_by_phase() -> None:
    rig = Rig()
    asgi = Asgi(*body(CHAT), headers=JSON, writer=True)
    serving = asyncio.ensure_future(rig.serve(asgi))
    await rig.source.news.until(lambda: rig.source.opened)
    asgi.leave()
    await serving
    await asyncio.wait_for(rig.streams.idle(), DEADLINE_S)
    assert asgi.sent == []
    assert rig.metrics.value(catalog.DISCONNECTS, "first_event", "client") == 1
    assert rig.metrics.value(catalog.STREAMS, "chat", "m", "cancelled", "") == 1
    rig.clean()


async def test_a_request_that_is_cancelled_from_outside_gives_everything_back() -> None:
    rig = Rig()
    asgi = Asgi(*body(CHAT), headers=JSON, writer=True)
    serving = asyncio.ensure_future(rig.serve(asgi))
    await rig.source.news.until(lambda: rig.source.opened)
    rig.source.last.feed(delta())
    await asgi.news.until(lambda: asgi.bodies)
    serving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await serving
    await asyncio.wait_for(rig.streams.idle(), DEADLINE_S)
    assert rig.source.last.cancelled
    rig.clean()


async def test_a_drains_deadline_tells_the_client() -> None:
    rig = Rig()
    asgi = Asgi(*body(CHAT), headers=JSON, writer=True)
    serving = asyncio.ensure_future(rig.serve(asgi))
    await rig.source.news.until(lambda: rig.source.opened)
    rig.source.last.feed(delta())
    await asgi.news.until(lambda: asgi.bodies)
    draining = asyncio.ensure_future(rig.streams.idle())
    await asyncio.sleep(0)
    draining.cancel()
    with pytest.raises(asyncio.CancelledError):
        await draining
    await serving
    assert b'"draining"' in asgi.body
    assert asgi.body.endswith(DONE)
    rig.clean()
