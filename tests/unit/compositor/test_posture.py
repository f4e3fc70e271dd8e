"""What the face does in a tick: it idles up to where speech was made for, waits there, returns without a jump."""

from __future__ import annotations

from collections import deque

import numpy as np
import pytest

from compositor.contracts import OpusPacket, SpeechTick
from compositor.session.feeder import Ready
from compositor.session.lines import Line
from compositor.session.posture import Kind, Posture

LINE = Line(1, 1, lambda: None)


def ready(position: int, asked_s: float = 0.0, **fields) -> Ready:
    packets = (OpusPacket(b"a"), OpusPacket(b"b"))
    tick = SpeechTick(np.zeros((32, 16, 16), np.float32), packets, 0.5, True, 0.0)
    return Ready(LINE, tick, position, asked_s, **fields)


def steps(posture: Posture, queue, times):
    return [(step.kind.value, step.position) for step in (posture.step(queue, at) for at in times)]


def test_positions_never_jump_from_idle_to_speech_and_back():
    posture = Posture(wait_s=0.4)
    assert steps(posture, deque(), [0, 0]) == [("idle", 0), ("idle", 1)]
    queue = deque(ready(at, pending=False, mouth=b"m") for at in (4, 5))
    assert steps(posture, queue, [0] * 5) == [("idle", 2), ("idle", 3), ("speak", 4), ("speak", 5), ("idle", 6)]


def test_a_late_mouth_is_waited_for_in_stillness_and_then_given_up():
    posture = Posture(wait_s=0.1)
    posture.step(deque(), 0.0)
    late = ready(1, asked_s=0.0)
    queue = deque([late])
    assert steps(posture, queue, [0.04, 0.08]) == [("hold", 0), ("hold", 0)]
    step = posture.step(queue, 0.12)
    assert (step.kind, step.position, step.mouth) == (Kind.SPEAK, 1, None)
    assert step.packets == late.tick.packets


def test_silence_is_opus_that_decodes_to_nothing():
    av = pytest.importorskip("av")
    step = Posture(0.1).step(deque(), 0.0)
    decoder = av.CodecContext.create("libopus", "r")
    decoder.sample_rate, decoder.layout = 48_000, "mono"
    for packet in step.packets * 5:
        frames = decoder.decode(av.Packet(packet.data))
        assert sum(frame.samples for frame in frames) == packet.samples == 960
        assert all(np.abs(frame.to_ndarray()).max() == 0 for frame in frames)


def test_slow_answers_are_asked_for_further_ahead():
    posture = Posture(wait_s=1.0)
    assert posture.next_position() == 0
    queue = deque(ready(at, pending=False, mouth=b"m", inference_s=0.1) for at in range(10))
    for _ in range(10):
        posture.step(queue, 0.0)
    assert posture.next_position() == 10 + 2
