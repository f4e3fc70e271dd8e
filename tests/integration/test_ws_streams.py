"""Streams on a WebSocket: what SSE says, said on a socket that many share (docs/reference/websocket.md)."""

from __future__ import annotations

import asyncio
import json
import logging
import time

import msgspec
import pytest
from websockets.exceptions import InvalidStatus

from edge.endpoints.parts import Parts
from streamkit.wire.backend import Capabilities
from streamkit.wire.keys import CLIENT_TOKENS, KeyRecord, KeySnapshot, Tenant, digest
from streamkit.wire.route import RouteRequest
from streamkit.wire.tokens import Claims, signed
from tests.support.inprocess import DONE, MODEL, ScriptedExchange, chunk, finish, running_edge, until
from tests.support.raw import Raw, post
from tests.support.timing import MS
from tests.support.websocket import Socket, opened, request

pytestmark = pytest.mark.anyio

USAGE = (
    b'data: {"id":"1","object":"chat.completion.chunk","choices":[],"usage":'
    b'{"prompt_tokens":3,"completion_tokens":2,"total_tokens":5}}\n\n'
)
ODD = (
    b'data: { "id":"1", "choices":[{"index":0,"delta":{"content":"\xe6\xb0\xb4 \\u6c34"},"finish_reason":null}]}\n\n'
)


async def short(exchange: ScriptedExchange) -> None:
    await exchange.stream(chunk("one"), ODD, finish(), USAGE, DONE)


async def held(exchange: ScriptedExchange) -> None:
    await exchange.head()
    await exchange.send(chunk("one"))
    await exchange.closed.wait()


def record(key: str, tenant: str = "t") -> KeyRecord:
    return KeyRecord(id=f"id-{key}", sha256=digest(key), tenant=tenant)


async def test_events_are_those_of_sse_byte_for_byte():
    body = request(stream_options={"include_usage": True})
    async with running_edge(short) as edge, Raw.to(edge.url) as client, opened(edge.url) as socket:
        told = (await client.ask(post(body))).body
        await socket.start("a", body)
        started, *events, done = await socket.whole("a")
        assert started == {"type": "started", "id": "a", "request_id": started["request_id"], "backend": "engine-0"}
        data = "".join(f"data: {Socket.data(text)}\n\n" for text in socket.texts[1:-1])
        assert (data + "data: [DONE]\n\n").encode() == told
        assert [event["seq"] for event in events] == [1, 2, 3, 4]
        assert done == {"type": "done", "id": "a", "seq": 5}
        # Usage that was not asked for is not told.
        await socket.start("a")
        assert [message["type"] for message in await socket.whole("a")] == ["started", *["event"] * 3, "done"]
        await edge.quiet()


async def test_the_request_reaches_the_engine_as_it_was_written():
    async with running_edge(short, capabilities=Capabilities(usage_chunk_only=False)) as edge:
        async with opened(edge.url) as socket:
            body = '{ "model":"m",  "stream":true, "x": 1.0e5, "t":"\\u00e9" }'
            await socket.connection.send(
                f'{{"type":"start","id":"a","operation":"text_completion","request":{body}}}'
            )
            await socket.whole("a")
            assert edge.engine.last.path == "/v1/completions"
            assert edge.engine.last.body == body.encode()
        routes = [one.json for one in edge.control.exchanges if one.path == "/v1/route"]
        assert [route["transport"] for route in routes] == ["websocket"]


async def test_many_streams_share_a_socket():
    go = asyncio.Event()

    async def many(exchange: ScriptedExchange) -> None:
        name = exchange.json["user"]
        await exchange.head()
        for number in range(20):
            await exchange.send(chunk(f"{name}{number}"))
            if number == 5:
                await go.wait()
        await exchange.send(finish() + DONE)
        await exchange.end()

    names = [f"s{number}" for number in range(30)]
    async with running_edge(many) as edge, opened(edge.url) as socket:
        for name in names:
            await socket.start(name, request(user=name))
        for name in names:
            await socket.event(name)
        assert edge.parts.streams.count == len(names)
        go.set()
        for name in names:
            rest = await socket.whole(name)
            texts = [message["data"]["choices"][0]["delta"].get("content") for message in rest[:-2]]
            assert texts == [f"{name}{number}" for number in range(1, 20)]
            assert rest[-1]["type"] == "done"
        await edge.quiet()


async def test_a_backend_that_dies_fails_its_stream_and_no_other():
    die = asyncio.Event()

    async def mortal(exchange: ScriptedExchange) -> None:
        await exchange.head()
        await exchange.send(chunk("one"))
        await die.wait()
        if exchange.json["user"] == "a":
            exchange.cut()
            return
        await exchange.send(finish() + DONE)
        await exchange.end()

    async with running_edge(mortal) as edge, opened(edge.url) as socket:
        for name in ("a", "b"):
            await socket.start(name, request(user=name))
            await socket.event(name)
        die.set()
        (error,) = await socket.whole("a")
        assert (error["type"], error["status"], error["error"]["code"]) == ("error", 502, "stream_broken")
        assert (await socket.whole("b"))[-1]["type"] == "done"
        await edge.quiet()


async def test_an_engines_own_error_frame_ends_the_stream_as_it_is():
    boom = b'{"error":{"message":"boom","type":"InternalServerError","param":null,"code":500}}'

    async def failing(exchange: ScriptedExchange) -> None:
        await exchange.stream(chunk("one"), b"data: " + boom + b"\n\n", DONE)

    async with running_edge(failing) as edge, opened(edge.url) as socket:
        await socket.start("a")
        error = (await socket.whole("a"))[-1]
        assert (error["status"], {"error": error["error"]}) == (500, json.loads(boom))
        await edge.quiet()


async def test_before_the_first_event_another_backend_is_tried():
    async def busy(exchange: ScriptedExchange) -> None:
        await exchange.answer({"error": {"message": "busy"}}, 503)

    async with running_edge(busy, short) as edge, opened(edge.url) as socket:
        await socket.start("a")
        started, *_, last = await socket.whole("a")
        assert (started["backend"], last["type"]) == ("engine-1", "done")


async def test_a_refusal_of_the_engine_is_told_with_its_status():
    verdict = {"error": {"message": "No such tool.", "type": "BadRequestError", "param": "tools", "code": 400}}

    async def refusing(exchange: ScriptedExchange) -> None:
        await exchange.answer(verdict, 400)

    async with running_edge(refusing) as edge, opened(edge.url) as socket:
        await socket.start("a")
        assert await socket.whole("a") == [{"type": "error", "id": "a", "status": 400, **verdict}]
        await edge.quiet()


async def test_without_a_backend_the_advice_is_told():
    async with running_edge() as edge, opened(edge.url) as socket:
        await socket.start("a")
        (error,) = await socket.whole("a")
        assert (error["status"], error["error"]["code"]) == (503, "no_backend")
        assert (error["retry_after_ms"], error["reason"]) == (2000, "rejected-no-backend")


async def test_a_cancelled_stream_stops_its_engine_and_its_name_is_free_again():
    async with running_edge(held) as edge, opened(edge.url) as socket:
        await socket.start("a")
        await socket.start("b")
        await socket.event("a")
        await socket.event("b")
        await socket.say("cancel", "a")
        assert await socket.whole("a") == [{"type": "cancelled", "id": "a"}]
        await until(lambda: sum(exchange.closed.is_set() for exchange in edge.engine.exchanges) == 1)
        assert edge.inflight == 1
        await socket.start("a")
        await socket.event("a")
        for name in ("a", "b"):
            await socket.say("cancel", name)
            await socket.whole(name)
        await edge.quiet()
        assert edge.metric("headrace_disconnects_total", phase="flowing") == 3


async def test_a_stream_is_cancelled_before_its_route_and_before_its_first_event():
    async def silent(exchange: ScriptedExchange) -> None:
        await exchange.head()
        await exchange.closed.wait()

    async with running_edge(silent) as edge, opened(edge.url) as socket:
        edge.control.answering.clear()
        await socket.start("a")
        await until(lambda: edge.control.routes)
        await socket.say("cancel", "a")
        await until(lambda: edge.metric("headrace_socket_messages_total", type="cancel"))
        edge.control.answering.set()
        assert await socket.whole("a") == [{"type": "cancelled", "id": "a"}]
        assert not edge.engine.exchanges
        await socket.start("b")
        exchange = await edge.engine.asked()
        await socket.say("cancel", "b")
        assert await socket.whole("b") == [{"type": "cancelled", "id": "b"}]
        await exchange.closed.wait()
        await edge.quiet()


async def test_words_about_streams_that_are_over_are_no_error():
    async with running_edge(short) as edge, opened(edge.url) as socket:
        await socket.say("cancel", "never")
        await socket.say("credit", "never", bytes=5)
        await socket.start("a")
        assert (await socket.whole("a"))[-1]["type"] == "done"
        await socket.say("cancel", "a")
        await socket.start("b")
        await socket.whole("b")
        assert all(socket.quiet(name) for name in ("", "a", "never"))


async def test_a_name_in_use_is_refused_and_the_running_stream_unharmed():
    async with running_edge(held) as edge, opened(edge.url) as socket:
        await socket.start("a")
        await socket.event("a")
        await socket.start("a")
        error = await socket.next()
        assert ("id" in error, error["error"]["code"], error["error"]["param"]) == (False, "conflict", "id")
        await socket.connection.send('{"type":"start","id":"a","operation":"chat","request":7}')
        assert "id" not in await socket.next()
        assert edge.inflight == 1


async def test_a_name_is_free_as_soon_as_its_last_message_is_there():
    async with running_edge(short, ws_max_streams=1, ws_messages_per_s=100_000) as edge, opened(edge.url) as socket:
        for number in range(100):
            credit = {"credit": 1 << 20} if number % 2 else {}
            await socket.start("a", **credit)
            assert (await socket.whole("a"))[-1]["type"] == "done"
            await socket.start("a", {"model": MODEL})
            assert (await socket.whole("a"))[-1]["status"] == 400
        await edge.quiet()


@pytest.mark.parametrize("way", ["close", "reset", "half"])
async def test_a_socket_that_ends_stops_all_its_engines(way):
    async with running_edge(held) as edge, opened(edge.url) as socket:
        for name in "abc":
            await socket.start(name)
            await socket.event(name)
        if way == "close":
            await socket.connection.close()
        elif way == "reset":
            socket.connection.transport.abort()
        else:
            socket.connection.transport.write_eof()
        for exchange in edge.engine.exchanges:
            async with asyncio.timeout(1000 * MS):
                await exchange.closed.wait()
        await edge.quiet()
        await until(lambda: not edge.parts.sockets.open)
        code = {"close": "1000", "reset": "1006", "half": "1006"}[way]
        assert edge.metric("headrace_sockets_closed_total", code=code) == 1
        assert edge.metric("headrace_disconnects_total") == 3


async def test_a_silent_engine_commits_the_stream_and_pings_are_no_events():
    go = asyncio.Event()

    async def late(exchange: ScriptedExchange) -> None:
        await exchange.head()
        await go.wait()
        await exchange.send(chunk("one") + finish() + DONE)
        await exchange.end()

    async with running_edge(late, commit_after_ms=20, heartbeat_ms=10) as edge, opened(edge.url) as socket:
        await socket.start("a")
        assert (await socket.next("a"))["type"] == "started"
        await until(lambda: edge.metric("headrace_heartbeats_total") > 3)
        go.set()
        rest = await socket.whole("a")
        assert [(message["type"], message["seq"]) for message in rest] == [("event", 1), ("event", 2), ("done", 3)]


async def test_each_stream_has_its_line_and_each_message_is_counted(caplog):
    async with running_edge(short) as edge:
        with caplog.at_level(logging.INFO, "headrace.edge.stream"):
            async with opened(edge.url) as socket:
                assert edge.metric("headrace_sockets_open") == 1
                await socket.start("a")
                started = await socket.next("a")
                await socket.whole("a")
                await socket.start("b", {"model": MODEL})
                await socket.next("b")
                await edge.quiet()
        lines = [record.headrace_fields for record in caplog.records if record.message == "stream.end"]
        assert len(lines) == 1
        line = lines[0]
        assert (line["transport"], line["request_id"]) == ("websocket", started["request_id"])
        assert (line["outcome"], line["events"], line["completion_tokens"]) == ("finished", 4, 2)
        await until(lambda: not edge.metric("headrace_sockets_open"))
        assert edge.metric("headrace_socket_messages_total", type="start") == 2
        assert edge.metric("headrace_sockets_closed_total", code="1000") == 1


@pytest.mark.parametrize(
    ("body", "param", "word"),
    [
        ({"model": MODEL, "stream": False}, "request.stream", "must be true"),
        ({"model": MODEL}, "request.stream", "must be true"),
        ({"stream": True}, "request.model", "required"),
        ({"model": 5, "stream": True}, "request.model", "str"),
        ({"model": MODEL, "stream": True, "n": 0}, "request.n", ">= 1"),
        ({"model": MODEL, "stream": True, "stream_options": 1}, "request.stream_options", "object"),
        ([], "request", "object"),
        (None, "request", "object"),
    ],
)
async def test_a_bad_request_names_its_field_and_ends_its_stream_alone(body, param, word):
    async with running_edge(held) as edge, opened(edge.url) as socket:
        await socket.start("a")
        await socket.event("a")
        await socket.say("start", "b", operation="chat", request=body)
        error = await socket.next("b")
        assert (error["status"], error["error"]["param"]) == (400, param)
        assert word in error["error"]["message"]
        assert "body" not in error["error"]["message"]
        assert edge.parts.streams.count == 1


async def test_streams_over_the_limit_are_refused():
    async with running_edge(held, ws_max_streams=2) as edge, opened(edge.url) as socket:
        for name in "abc":
            await socket.start(name)
        error = await socket.next("c")
        assert (error["status"], error["error"]["code"]) == (429, "saturated")
        assert "ws_max_streams" in error["error"]["message"]
        await socket.event("a")
        await socket.say("cancel", "a")
        await socket.whole("a")
        await socket.start("c")
        await socket.event("c")
        assert edge.inflight == 2


async def test_bodies_are_charged_and_refused_when_there_is_no_room():
    big = "x" * (9 << 20)
    async with running_edge(held, memory_bytes=16 << 20) as edge, opened(edge.url) as socket:
        await socket.start("a", request(user=big))
        await socket.event("a")
        assert edge.parts.bodies.used_bytes > len(big)
        await socket.start("b", request(user=big))
        # There is no room to read it, let alone to keep it.
        assert await socket.closed() == 1013
        await edge.quiet()


async def test_a_key_is_asked_for_in_the_handshake_and_again_for_each_stream():
    keys = KeySnapshot(required=True, tenants=(Tenant(name="t", max_priority=4),), keys=(record("good"),))
    good = {"additional_headers": {"authorization": "Bearer good"}}
    async with running_edge(held, keys=keys) as edge:
        for options in (
            {},
            {"additional_headers": {"authorization": "Bearer bad"}},
            {"subprotocols": ["headrace.v1"]},
        ):
            with pytest.raises(InvalidStatus) as refused:
                async with opened(edge.url, **options):
                    pass
            assert refused.value.response.status_code == 401
            assert json.loads(refused.value.response.body)["error"]["code"] == "unauthorized"
        # What a browser can do.
        async with opened(edge.url, subprotocols=["headrace.v1", "headrace.key.good"]) as socket:
            assert socket.connection.subprotocol == "headrace.v1"
            await socket.start("a")
            await socket.event("a")
        async with opened(edge.url, **good) as socket:
            assert socket.connection.subprotocol is None
            await socket.start("a", priority=1)
            await socket.event("a")
            bodies = [one.body for one in edge.control.exchanges if one.path == "/v1/route"]
            asked = [msgspec.json.decode(body, type=RouteRequest).priority_class for body in bodies]
            assert asked == [5, 4], "clamped to the tenant's"
            revoked = msgspec.structs.replace(edge.control.snapshot, keys=KeySnapshot(required=True))
            edge.control.publish(revoked)
            await until(lambda: _refuses(edge.parts))
            await socket.start("b")
            assert (await socket.next("b"))["status"] == 401
            assert edge.inflight == 1, "what runs goes on"


async def test_a_client_token_comes_by_subprotocol_or_address_and_keeps_its_scope():
    secret = "5a" * 32
    keys = KeySnapshot(
        required=True, tenants=(Tenant(name="t"),), keys=(record("good"),), secrets={CLIENT_TOKENS: secret}
    )
    page = "https://app.example"
    claims = Claims(key="id-good", expires_at=int(time.time()) + 600, models=(MODEL,), origin=page, max_priority=3)
    token = signed(claims, bytes.fromhex(secret))
    async with running_edge(short, keys=keys, cors_origins=[page]) as edge:
        for where in ({"subprotocols": ["headrace.v1", f"headrace.key.{token}"]}, {"query": f"?token={token}"}):
            async with opened(edge.url, origin=page, **where) as socket:
                await socket.start("a", priority=1)
                assert (await socket.whole("a"))[-1]["type"] == "done"
                await socket.start("b", {"model": "other", "stream": True})
                assert (await socket.next("b"))["status"] == 403
        asked = [one.json["priority_class"] for one in edge.control.exchanges if one.path == "/v1/route"]
        assert asked[0] == 3
        # The page that it was made for, and no key in an address.
        for options in ({"query": f"?token={token}", "origin": edge.url}, {"query": "?token=good"}):
            with pytest.raises(InvalidStatus) as refused:
                async with opened(edge.url, **options):
                    pass
            assert refused.value.response.status_code in (401, 403)


def _refuses(parts: Parts) -> bool:
    try:
        parts.access.check({"headers": [(b"authorization", b"Bearer good")]})
    except Exception as error:  # noqa: BLE001
        return "not known" in str(error)
    return False


async def test_foreign_pages_cannot_connect():
    async with running_edge(short, cors_origins=["https://app.example"]) as edge:
        with pytest.raises(InvalidStatus) as refused:
            async with opened(edge.url, origin="https://evil.example"):
                pass
        assert refused.value.response.status_code == 403
        for origin in (edge.url, "https://app.example"):
            async with opened(edge.url, origin=origin) as socket:
                await socket.start("a")
                assert (await socket.whole("a"))[-1]["type"] == "done"


async def test_trace_context_and_simulator_directives_are_forwarded():
    trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    simulated = Capabilities(simulated=True)
    context = {"additional_headers": {"traceparent": trace}}
    async with running_edge(short, capabilities=simulated) as edge, opened(edge.url, **context) as socket:
        await socket.start("a", sim="tokens=5")
        started = await socket.next("a")
        await socket.whole("a")
        assert started["simulated"] is True
        headers = edge.engine.last.headers
        assert (headers["traceparent"], headers["x-sim"]) == (trace, "tokens=5")
        assert headers["x-request-id"] == started["request_id"]


async def test_a_drain_closes_idle_sockets_and_lets_streams_finish():
    go = asyncio.Event()

    async def slow(exchange: ScriptedExchange) -> None:
        await exchange.head()
        await exchange.send(chunk("one"))
        await go.wait()
        await exchange.send(finish() + DONE)
        await exchange.end()

    async with running_edge(slow, drain_ms=10_000) as edge, opened(edge.url) as busy, opened(edge.url) as idle:
        await busy.start("a")
        await busy.event("a")
        edge.edge.lifecycle.begin_drain()
        assert await idle.closed() == 1012
        await busy.start("b")
        error = await busy.next("b")
        assert (error["status"], error["error"]["code"]) == (503, "draining")
        go.set()
        assert (await busy.whole("a"))[-1]["type"] == "done"
        assert await busy.closed() == 1012
        await until(lambda: edge.edge.lifecycle.state == "stopped")


async def test_a_drain_that_is_over_ends_each_stream_in_words():
    async with running_edge(held, drain_ms=50) as edge, opened(edge.url) as socket:
        for name in "ab":
            await socket.start(name)
            await socket.event(name)
        edge.edge.lifecycle.begin_drain()
        for name in "ab":
            (error,) = await socket.whole(name)
            assert (error["status"], error["error"]["code"]) == (503, "draining")
        assert await socket.closed() == 1012
        await until(lambda: edge.edge.lifecycle.state == "stopped")
