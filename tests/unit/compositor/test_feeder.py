"""From voices to ticks: in order, ahead of the picture, and how a microphone's face catches up."""

from __future__ import annotations

import asyncio

import numpy as np

from compositor.contracts import FEATURE_SHAPE, OpusPacket, SpeechTick
from compositor.session.feeder import Feeder
from compositor.session.lines import Line, Lines
from streamkit.flow.clock import ManualClock

FEATURES = np.zeros(FEATURE_SHAPE, np.float32)


class Voice:
    """Gives ticks from a list; a letter is one that is spoken, a dot is silence."""

    def __init__(self, text: str, *, features=FEATURES) -> None:
        self.text, self.features, self.closed = text, features, 0

    async def ticks(self):
        for letter in self.text:
            await asyncio.sleep(0)
            yield SpeechTick(self.features, (OpusPacket(letter.encode()),), 0.5, letter != ".", 0.0)

    async def aclose(self) -> None:
        self.closed += 1


class Mouths:
    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.cancelled = 0

    async def ask(self, wanted):
        self.batches.append([one.frame for one in wanted])
        return [b"m"] * len(wanted)

    def cancel(self) -> None:
        self.cancelled += 1


def rig(*, lookahead: int = 8):
    lines, mouths, clock, caught = Lines(9), Mouths(), ManualClock(100.0), []
    feeder = Feeder(
        lines,
        mouths,
        frame_of=lambda position: position % 5,
        next_position=lambda: 10,
        lookahead=lookahead,
        max_batch=4,
        wait_s=1.0,
        clock=clock,
        on_mouthless=lambda *_: None,
        on_caught_up=lambda: caught.append(1),
    )
    return lines, mouths, clock, caught, feeder


def spoken(feeder: Feeder) -> str:
    return "".join(ready.tick.packets[0].data.decode() for ready in feeder.queue)


async def until_full(feeder: Feeder, turns: int = 80) -> str:
    task = asyncio.create_task(feeder.run())
    for _ in range(turns):
        await asyncio.sleep(0)
    found = spoken(feeder)
    positions = [ready.position for ready in feeder.queue]
    assert positions == list(range(10, 10 + len(positions)))
    task.cancel()
    feeder.close()
    await asyncio.gather(task, *feeder.closing, return_exceptions=True)
    return found


def test_utterances_follow_each_other_no_further_ahead_than_they_may():
    async def scenario() -> None:
        lines, mouths, _, _, feeder = rig(lookahead=6)
        voices = [Voice("abc"), Voice("defgh")]
        for number, voice in enumerate(voices, start=1):
            lines.add(Line(1, number, lambda voice=voice: voice))
        assert await until_full(feeder) == "abcdef"
        assert [frame for batch in mouths.batches for frame in batch] == [0, 1, 2, 3, 4, 0]
        assert all(voice.closed == 1 for voice in voices)

    asyncio.run(scenario())


def test_a_microphone_that_waits_has_its_pauses_shortened_and_nothing_else():
    async def scenario() -> None:
        lines, _, _, caught, feeder = rig()
        voice = Voice("ab..cd....e.f")
        line = Line(1, 1, lambda: voice, sound=voice, speech=voice)
        line.begun_s = 90.0  # it was pushed as it was heard
        line.pushed_s = 10.4
        lines.add(line)
        # Four wait, so that from there on silence is left out.
        assert await until_full(feeder) == "ab..cdef"
        assert len(caught) == 5

    asyncio.run(scenario())


def test_a_file_that_was_posted_keeps_its_pauses():
    async def scenario() -> None:
        lines, _, _, caught, feeder = rig()
        voice = Voice("ab..cd....e.f")
        line = Line(1, 1, lambda: voice, sound=voice, speech=voice)
        line.begun_s, line.pushed_s = 99.9, 9.0
        lines.add(line)
        assert await until_full(feeder) == "ab..cd.."
        assert caught == []

    asyncio.run(scenario())


def test_features_of_another_shape_fail_their_utterance_only():
    async def scenario() -> None:
        lines, _, _, _, feeder = rig()
        lines.add(Line(1, 1, lambda: Voice("ab", features=np.zeros((1, 2), np.float32))))
        lines.add(Line(1, 2, lambda: Voice("cd")))
        assert await until_full(feeder) == "cd"
        assert next(iter(lines)).failure == "the voice failed"

    asyncio.run(scenario())


def test_what_is_dropped_takes_its_queued_ticks_with_it():
    async def scenario() -> None:
        lines, mouths, _, _, feeder = rig()
        voices = [Voice("abcdefghij"), Voice("klm")]
        lines.add(Line(1, 1, lambda: voices[0]))
        lines.add(Line(2, 2, lambda: voices[1]))
        task = asyncio.create_task(feeder.run())
        for _ in range(40):
            await asyncio.sleep(0)
        assert spoken(feeder) == "abcdefgh"
        feeder.drop(lines.interrupt(2))
        assert (spoken(feeder), mouths.cancelled) == ("", 1)
        for _ in range(40):
            await asyncio.sleep(0)
        assert spoken(feeder) == "klm"
        assert voices[0].closed == 1
        task.cancel()
        feeder.close()
        await asyncio.gather(task, *feeder.closing, return_exceptions=True)

    asyncio.run(scenario())
