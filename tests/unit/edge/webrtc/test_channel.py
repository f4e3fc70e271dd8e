"""The data channel's bounds: what a viewer sends, what it does not read, what was said before it opened."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from aiortc.exceptions import InvalidStateError

from edge.endpoints.avatars.carrier import ChannelCarrier
from edge.protocol.socket_out import text_frame
from edge.webrtc.channel import Channel
from streamkit.wire.errors import Code, HeadraceError

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend():
    return ("asyncio", {"use_uvloop": True})


class Wire:
    """What aiortc's channel is to ours."""

    def __init__(self) -> None:
        self.sent: list[str] = []
        self.bufferedAmount = 0
        self.bufferedAmountLowThreshold = 0
        self.readyState = "open"
        self.listeners: dict[str, Callable] = {}
        self.fails: Exception | None = None

    def on(self, event: str, listener: Callable) -> None:
        self.listeners[event] = listener

    def send(self, text: str) -> None:
        if self.fails is not None:
            raise self.fails
        self.sent.append(text)
        self.bufferedAmount += len(text.encode())


class Rig:
    def __init__(self) -> None:
        self.got: list[bytes] = []
        self.resumed = 0
        self.heard = 0
        self.wire = Wire()
        self.channel = Channel(100, 1_000, on_message=self.got.append, on_resume=self.resume)

    def resume(self) -> None:
        self.resumed += 1

    def hear(self) -> None:
        self.heard += 1

    def open(self) -> Rig:
        assert self.channel.take(self.wire, self.hear)
        return self


def test_what_was_said_before_it_opened_comes_first_and_is_bounded():
    rig = Rig()
    for number in range(100):
        rig.channel.send(b"%d" % number)
    rig.open()
    assert rig.wire.sent == [str(number) for number in range(36, 100)]
    rig.channel.send(b"next")
    assert rig.wire.sent[-1] == "next"
    assert not rig.channel.take(Wire(), rig.hear), "one is enough"


def test_messages_are_text_and_bounded():
    rig = Rig().open()
    say = rig.wire.listeners["message"]
    say("x" * 100)
    assert rig.got == [b"x" * 100]
    say("é" * 51)
    say(b"\0")
    errors = [json.loads(text) for text in rig.wire.sent]
    assert [error["status"] for error in errors] == [413, 415]
    assert "102 bytes; the limit is message_bytes = 100" in errors[0]["error"]["message"]
    assert rig.heard == 4, "whatever comes says that somebody is there"


def test_one_that_does_not_read_is_paused_then_loses_messages_of_ours():
    rig = Rig().open()
    rig.channel.send(b"x" * 1_000)
    assert not rig.channel.paused
    rig.channel.send(b"x")
    assert rig.channel.paused
    rig.channel.send(b"x" * 3_000)
    assert rig.channel.dropped == 0
    rig.channel.send(b"lost")
    assert rig.channel.dropped == 1
    assert rig.wire.bufferedAmountLowThreshold == 250
    rig.wire.bufferedAmount = 0
    rig.wire.listeners["bufferedamountlow"]()
    assert rig.resumed == 1
    rig.channel.send(b"again")
    assert rig.wire.sent[-1] == "again"


@pytest.mark.parametrize("fails", [InvalidStateError(), ValueError("too large"), ConnectionError()])
def test_what_cannot_be_sent_harms_nobody(fails: Exception):
    rig = Rig().open()
    rig.wire.fails = fails
    rig.channel.send(b"x")
    assert rig.channel.dropped == 1
    rig.wire.readyState = "closed"
    rig.channel.send(b"x")
    assert rig.channel.dropped == 2


async def test_the_farewell_says_why():
    rig = Rig().open()
    await rig.channel.farewell(HeadraceError(Code.DRAINING, "The gateway is stopping."))
    assert json.loads(rig.wire.sent[0])["error"]["code"] == "draining"


def test_frames_become_messages():
    rig = Rig().open()
    ended: list[int] = []
    carrier = ChannelCarrier(rig.channel, lambda: ended.append(1))
    long = json.dumps({"a": "x" * 300})
    huge = json.dumps({"a": "y" * 70_000})
    assert carrier.write(text_frame(b'{"a":1}') + text_frame(long.encode()))
    assert not carrier.write(text_frame(huge.encode()))
    assert rig.wire.sent == ['{"a":1}', long, huge]
    assert carrier.paused
    assert carrier.unsent_bytes == rig.wire.bufferedAmount
    carrier.abort(4408)
    assert ended == [1]
