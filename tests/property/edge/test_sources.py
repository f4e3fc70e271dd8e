"""Engines that answer in any way, cut anywhere, left at any moment: the end is told once, nothing stays held."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.streams.contracts import Ending
from streamkit.wire.backend import Cancels
from tests.property.wire.streams import cuts, pieces
from tests.unit.edge.scripted import DONE, ROLE, delta, finish, turning
from tests.unit.edge.sources.engines import CHUNKED, JSON_HEAD, LAST, STREAM_HEAD, Engine, Line, Sink, chunk, client
from tests.unit.edge.sources.test_connection import Rig

BODIES = st.lists(st.binary(max_size=30), max_size=5)


@settings(max_examples=150)
@given(BODIES, st.sampled_from(["chunked", "length", "close"]), st.integers(0, 2), st.data())
def test_any_response_cut_anywhere_gives_its_body_and_one_end(
    parts: list[bytes], framing: str, interim: int, data: st.DataObject
) -> None:
    body = b"".join(parts)
    wire = b"HTTP/1.1 100 Continue\r\n\r\n" * interim + b"HTTP/1.1 200 OK\r\nx: y\r\n"
    if framing == "chunked":
        wire += CHUNKED + b"".join(chunk(part) for part in parts if part) + LAST
    elif framing == "length":
        wire += b"content-length: %d\r\n\r\n" % len(body) + body
    else:
        wire += b"\r\n" + body
    rig = Rig()
    for piece in pieces(wire, data.draw(cuts(len(wire)))):
        assert rig.taker.end is None
        rig.read(piece)
    if framing == "close":
        rig.connection.connection_lost(None)
    assert rig.taker.end == "complete"
    assert b"".join(rig.taker.bodies) == body
    assert [head.status for head in rig.taker.heads] == [200]
    assert rig.owner.calls == (["lost"] if framing == "close" else ["released"])


@settings(max_examples=150)
@given(st.binary(max_size=80), st.binary(max_size=80), st.data())
def test_any_bytes_at_all_end_in_one_end(first: bytes, rest: bytes, data: st.DataObject) -> None:
    start = data.draw(
        st.sampled_from([b"", b"HTTP/1.1 200 OK\r\n", STREAM_HEAD + CHUNKED, b"HTTP/1.1 101 X\r\n\r\n"])
    )
    rig = Rig()
    wire = start + first + rest
    for piece in pieces(wire, data.draw(cuts(len(wire)))):
        if rig.transport.end:
            break
        rig.read(piece)
    rig.connection.connection_lost(None)
    assert rig.taker.end is not None
    assert rig.owner.calls.count("lost") == 1


@dataclass
class Scene:
    """What an engine does, and what the edge does meanwhile."""

    stream: bool
    framing: str
    bodies: list[bytes]
    ending: str
    keeps_on: bool
    cancel_at: int | None
    pause_at: int | None
    memory_bytes: int


scenes = st.builds(
    Scene,
    stream=st.booleans(),
    framing=st.sampled_from(["chunked", "length", "close"]),
    bodies=st.lists(st.sampled_from([ROLE, delta("a"), finish(), DONE, b"data: half", b": ping\n\n"]), max_size=5),
    ending=st.sampled_from(["whole", "whole", "whole", "fin", "reset", "garbage", "silence"]),
    keeps_on=st.booleans(),
    cancel_at=st.none() | st.integers(0, 12),
    pause_at=st.none() | st.integers(0, 12),
    memory_bytes=st.sampled_from([10, 1 << 20]),
)


async def play(scene: Scene) -> None:
    body = b"".join(scene.bodies)

    async def script(line: Line) -> bool:
        head = STREAM_HEAD if scene.stream else JSON_HEAD
        wire = {
            "chunked": head + CHUNKED,
            "length": head + b"content-length: %d\r\n\r\n" % (len(body) + 100 * (scene.ending != "whole")),
            "close": head + b"\r\n",
        }[scene.framing]
        await line.send(wire, *(chunk(part) if scene.framing == "chunked" else part for part in scene.bodies))
        match scene.ending:
            case "whole":
                await line.send(LAST if scene.framing == "chunked" else b"")
                return scene.framing != "close"
            case "reset":
                line.reset()
            case "garbage":
                await line.send(b"\0garbage\r\n")
            case "silence":
                await line.gone()
        return False

    cancels = Cancels(stream=not scene.keeps_on, nonstream=not scene.keeps_on)
    async with Engine(script) as engine, client(engine.url, cancels=cancels, memory_bytes=scene.memory_bytes) as edge:
        sink = Sink()
        exchange = edge.open(sink, stream=scene.stream)
        for turn in range(14):
            if turn == scene.pause_at:
                exchange.pause()
            if turn == scene.cancel_at:
                exchange.cancel()
            await asyncio.sleep(0)
        exchange.resume()
        if scene.ending == "silence" and sink.outcome is None:
            exchange.cancel()
            if scene.keeps_on:
                await turning(lambda: sink.outcome is not None or engine.requests)
                for line in engine.lines:
                    line.reset()
        outcome = await sink.ended()
        cancelled = scene.cancel_at is not None or scene.ending == "silence"
        if outcome.ending is Ending.CANCELLED:
            assert cancelled
        elif scene.ending == "whole" and outcome.ending is not Ending.BROKEN:
            assert outcome.ending is (Ending.END if scene.stream else Ending.ANSWER)
            assert outcome.body == (b"" if scene.stream else body)
        elif outcome.ending is not Ending.BROKEN:
            assert scene.framing == "close", "only a close is no sign of a break there"
        else:
            assert scene.ending != "whole" or scene.memory_bytes == 10
        assert edge.account.used_bytes == 0
    assert (edge.pool.idle, edge.pool.active) == (0, 0)


@pytest.mark.anyio
@settings(max_examples=150)
@given(scene=scenes)
async def test_whatever_an_engine_and_a_client_do_the_end_is_told_once(scene: Scene) -> None:
    await play(scene)
