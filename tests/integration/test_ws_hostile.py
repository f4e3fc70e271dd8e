"""Handshakes and frames that no honest client sends, each with its documented answer; nobody else notices."""

from __future__ import annotations

import asyncio
import gc
import socket as sockets
import weakref

import pytest

import edge.endpoints.websocket as endpoint
from tests.support.inprocess import DONE, ScriptedExchange, chunk, finish, running_edge, until
from tests.support.raw import Raw, post
from tests.support.timing import MS
from tests.support.websocket import close_code, frame, handshake, opened, read_frame, shaken

pytestmark = pytest.mark.anyio

START = b'{"type":"start","id":"a","operation":"chat","request":{"model":"m","stream":true}}'
WAIT = START.replace(b'"stream"', b'"user":"wait","stream"')


async def engine(exchange: ScriptedExchange) -> None:
    await exchange.head()
    await exchange.send(chunk("one"))
    if b'"wait"' in exchange.body:
        await exchange.closed.wait()
    await exchange.send(finish() + DONE)
    await exchange.end()


async def heard(client: Raw, kind: bytes) -> bytes:
    """Read up to the message of a type."""
    while True:
        opcode, data = await read_frame(client)
        if opcode == 1 and data.startswith(b'{"type":"%b"' % kind):
            return data


# Handshakes.


BAD_HANDSHAKES = [
    (handshake(sec_websocket_key=None), 400, "Sec-WebSocket-Key"),
    (handshake(sec_websocket_key="short"), 400, "Sec-WebSocket-Key"),
    (handshake(sec_websocket_key="!" * 24), 400, "Sec-WebSocket-Key"),
    (handshake(sec_websocket_version=None), 400, "Sec-WebSocket-Version"),
    (handshake(sec_websocket_version="8"), 400, "Sec-WebSocket-Version"),
    (handshake(connection="keep-alive"), 400, "WebSocket"),
    (handshake(upgrade="websocket, h2c"), 400, "WebSocket"),
    (handshake(upgrade="h2c"), 400, "WebSocket"),
    (handshake(upgrade=None), 400, "WebSocket"),
    (handshake(version="1.0"), 400, "WebSocket"),
    (handshake("/"), 400, "/v1/ws"),
    (handshake("/v1/chat/completions", method="POST"), 400, "/v1/ws"),
    (handshake("/v1/models"), 400, "/v1/ws"),
    (handshake("/v1/ws/x"), 400, "/v1/ws"),
    (handshake(method="POST"), 405, "GET"),
    (handshake(content_length="5") + b"hello", 400, "no body"),
    (handshake(transfer_encoding="chunked") + b"0\r\n\r\n", 400, "no body"),
    (handshake(origin="http://evil.example"), 403, "origin"),
]


async def test_a_bad_handshake_is_refused_in_words():
    async with running_edge(engine) as edge:
        for offer, status, word in BAD_HANDSHAKES:
            async with Raw.to(edge.url) as client:
                answer = await client.ask(offer)
                assert answer.status == status, offer
                assert word in answer.error["message"]
                assert answer.headers["x-request-id"]
        assert not edge.parts.sockets.open


async def test_a_good_handshake_has_what_the_rfc_wants_and_no_extension():
    key = {"sec_websocket_key": "dGhlIHNhbXBsZSBub25jZQ==", "x_request_id": "mine"}
    async with running_edge(engine) as edge, Raw.to(edge.url) as client:
        answer = await shaken(client, sec_websocket_extensions="permessage-deflate", **key)
        assert answer.headers["Sec-WebSocket-Accept"] == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
        assert answer.headers["Upgrade"].lower() == "websocket"
        assert "Sec-WebSocket-Extensions" not in answer.headers
        assert answer.headers["x-request-id"] == "mine"


async def test_a_handshake_in_single_bytes_behind_other_requests_with_frames_behind_it():
    async with running_edge(engine) as edge, Raw.to(edge.url) as client:
        first = post(path="/v1/models", method="GET")
        await client.send(first + handshake() + frame(START)[:20], frame(START)[:0])
        assert (await client.response()).status == 200
        assert (await client.head()).status == 101
    async with running_edge(engine) as edge, Raw.to(edge.url) as client:
        message = frame(START)
        await client.send(*(bytes([byte]) for byte in handshake()), message[:20])
        assert (await client.head()).status == 101
        await client.send(*(bytes([byte]) for byte in message[20:]))
        assert (await heard(client, b"done")).endswith(b'"seq":3}')
        await edge.quiet()


async def test_what_is_sent_before_the_answer_is_kept_within_a_bound():
    async with running_edge(engine, max_pipelined_bytes=4096) as edge, Raw.to(edge.url) as client:
        await client.send(handshake() + frame(START) + frame(b"x", opcode=9))
        assert (await client.head()).status == 101
        assert await read_frame(client) == (10, b"x")
        await heard(client, b"done")
        await edge.quiet()


# Frames.


BAD_FRAMES = [
    (frame(START, masked=False), 1002),
    (frame(START, reserved=4), 1002),
    (frame(START, reserved=1), 1002),
    (frame(b"", opcode=3), 1002),
    (frame(b"", opcode=11), 1002),
    (frame(b"x" * 126, opcode=9), 1002),
    (frame(b"x", opcode=9, fin=False), 1002),
    (frame(b"x", opcode=0), 1002),
    (frame(b"x", fin=False) + frame(b"y"), 1002),
    (frame(b"\x03", opcode=8), 1002),
    (frame(b"\x00\x01", opcode=8), 1002),
    (frame(b"\x03\xed", opcode=8), 1002),
    (frame(b"\x03\xe8\xff", opcode=8), 1007),
    (frame(START, opcode=2), 1003),
    (frame(START, opcode=2, fin=False), 1003),
    (frame(b'{"type":"\xff"}'), 1007),
    (frame(b'{"type":"\xc3', fin=False) + frame(b'"}', opcode=0), 1007),
    (frame(b"\xed\xa0\x80"), 1007),
    (frame(b"x" * 5000), 1009),
    (frame(b"x" * 3000, fin=False) + frame(b"x" * 3000, opcode=0), 1009),
    (b"\x81\xff" + b"\xff" * 12, 1009),
    (b"GET / HTTP/1.1\r\n\r\n", 1002),
]


async def test_a_bad_frame_ends_the_socket_with_its_code_and_all_its_streams():
    async with running_edge(engine, ws_message_bytes=4096) as edge, opened(edge.url) as neighbour:
        await neighbour.start("a")
        assert (await neighbour.whole("a"))[-1]["type"] == "done"
        for bad, code in BAD_FRAMES:
            before = edge.metric("headrace_sockets_closed_total", code=str(code))
            async with Raw.to(edge.url) as client:
                await shaken(client)
                await client.send(frame(WAIT))
                await heard(client, b"event")
                await client.send(bad)
                assert await close_code(client) == code, bad
            await edge.quiet()
            await until(lambda: len(edge.parts.sockets.open) == 1)
            assert edge.metric("headrace_sockets_closed_total", code=str(code)) == before + 1
        await neighbour.start("b")
        assert (await neighbour.whole("b"))[-1]["type"] == "done"


BAD_MESSAGES = [
    b"", b"{", b"null", b"[]", b'{"type":"nonsense"}', b'{"type":"start"}', b'{"type":"start","id":"x"', b"\x00",
    b"7" * 4000,
]  # fmt: skip


async def test_a_bad_message_is_answered_and_the_socket_goes_on():
    async with running_edge(engine) as edge, Raw.to(edge.url) as client:
        await shaken(client)
        await client.send(frame(WAIT))
        await heard(client, b"event")
        for text in BAD_MESSAGES:
            await client.send(frame(text))
            assert b'"status":400' in await heard(client, b"error"), text
        await client.send(frame(START.replace(b'"a"', b'"b"')))
        await heard(client, b"done")
        assert edge.parts.streams.count == 1
        assert edge.metric("headrace_socket_messages_total", type="refused") == len(BAD_MESSAGES)


async def test_fragments_are_put_together_with_pings_in_between():
    pieces = [START[at : at + 7] for at in range(0, len(START), 7)]
    async with running_edge(engine) as edge, Raw.to(edge.url) as client:
        await shaken(client)
        for number, piece in enumerate(pieces):
            last = number == len(pieces) - 1
            await client.send(frame(piece, opcode=0 if number else 1, fin=last), frame(b"p%d" % number, opcode=9))
        await heard(client, b"done")
        await edge.quiet()


async def test_half_messages_are_charged_and_have_their_time():
    async with running_edge(engine, body_ms=int(300 * MS * 1000)) as edge:
        for half in (frame(b"x" * 3000, fin=False), frame(b"x" * 9000)[:3000], frame(b"x" * 90_000)[:8], b"\x81"):
            async with Raw.to(edge.url) as client:
                await shaken(client)
                await client.send(half)
                await until(lambda: edge.parts.sockets.frames.used_bytes)
                assert edge.parts.sockets.frames.used_bytes <= 3_008
                assert await close_code(client) == 4408
            await until(lambda: not edge.parts.sockets.frames.used_bytes)
        async with Raw.to(edge.url) as client:
            await shaken(client)
            await client.send(frame(WAIT))
            await heard(client, b"event")
            await asyncio.sleep(400 * MS)  # an idle socket is no slow message
            await client.send(frame(b"x", opcode=9))
            assert await read_frame(client) == (10, b"x")


async def test_a_flood_of_messages_is_closed_and_of_tiny_frames_too():
    async with running_edge(engine, ws_messages_per_s=20) as edge:
        fragments = frame(b"", fin=False) + frame(b"", opcode=0, fin=False) * 200
        for flood in (frame(b"{}") * 200, frame(b"", opcode=9) * 200, frame(b"", opcode=10) * 200, fragments):
            async with Raw.to(edge.url) as client:
                await shaken(client)
                await client.send(flood)
                assert await close_code(client) == 4429
        await until(lambda: not edge.parts.sockets.open)
        assert edge.metric("headrace_socket_messages_total") < 200, "not all were taken"


async def test_a_ping_is_answered_and_a_close_too():
    async with running_edge(engine) as edge, Raw.to(edge.url) as client:
        await shaken(client)
        await client.send(frame(b"hello", opcode=9))
        assert await read_frame(client) == (10, b"hello")
        await client.send(frame(WAIT))
        await heard(client, b"event")
        await client.send(frame(b"\x0f\xa0bye", opcode=8), frame(START))
        assert await read_frame(client) == (8, b"\x0f\xa0bye")
        assert await client.ended() == b""
        await edge.quiet()
        await until(lambda: edge.metric("headrace_sockets_closed_total", code="other") == 1)


async def test_a_silent_client_is_pinged_and_given_up():
    options = {"ws_ping_ms": int(100 * MS * 1000), "ws_pong_ms": int(200 * MS * 1000)}
    async with running_edge(engine, **options) as edge, Raw.to(edge.url) as client:
        await shaken(client)
        await client.send(frame(WAIT))
        await heard(client, b"event")
        for _ in range(3):
            assert await read_frame(client) == (9, b"")
            await client.send(frame(b"", opcode=10))
        assert await read_frame(client) == (9, b"")
        await client.gone()
        await edge.quiet()
        await until(lambda: edge.metric("headrace_sockets_closed_total", code="4408") == 1)


async def test_a_client_that_does_not_answer_a_close_is_not_waited_for(monkeypatch):
    monkeypatch.setattr("edge.server.websocket._CLOSE_S", 100 * MS)
    async with running_edge(engine) as edge, Raw.to(edge.url) as client:
        await shaken(client)
        await client.send(frame(b"", opcode=2))
        assert (await read_frame(client))[0] == 8
        await until(lambda: not edge.parts.sockets.open)


async def test_what_comes_after_our_close_is_dropped_and_costs_nothing():
    async with running_edge(engine) as edge, Raw.to(edge.url) as client:
        await shaken(client)
        await client.send(frame(b"", opcode=2))
        assert (await read_frame(client))[0] == 8
        await client.pour(frame(b"x" * 60_000), 4 << 20)
        assert edge.parts.sockets.frames.used_bytes == 0
        client.socket.shutdown(sockets.SHUT_WR)
        await until(lambda: not edge.parts.sockets.open)


async def test_a_closed_socket_is_freed_without_the_collector(monkeypatch):
    sessions: list[weakref.ref] = []

    class Session(endpoint._Session):
        def __init__(self, *arguments) -> None:
            super().__init__(*arguments)
            sessions.extend([weakref.ref(self), weakref.ref(self._socket), weakref.ref(self._socket._state)])

    monkeypatch.setattr(endpoint, "_Session", Session)
    async with running_edge(engine) as edge:
        async with opened(edge.url) as socket:  # what a process makes once
            await socket.start("a")
            await socket.whole("a")
        await until(lambda: not edge.parts.sockets.open)
        gc.collect()
        gc.disable()
        try:
            sessions.clear()
            for way in (b"\x03\xe8", None):
                async with Raw.to(edge.url) as client:
                    await shaken(client)
                    await client.send(frame(START))
                    await heard(client, b"done")
                    await client.send(frame(WAIT))
                    await heard(client, b"event")
                    if way is not None:
                        await client.send(frame(way, opcode=8))
                        await client.gone()
                await until(lambda: not edge.parts.sockets.open)
                await edge.quiet()
            async with Raw.to(edge.url) as client:
                assert (await client.ask(handshake(sec_websocket_key=None))).status == 400
            await until(lambda: not edge.connections)
            await until(lambda: not [one for one in sessions if one() is not None], "sessions and sockets are freed")
        finally:
            gc.enable()
