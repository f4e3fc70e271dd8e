"""Lips and sound as a viewer gets them: decoded from the units of one session, laid side by side."""

from __future__ import annotations

import asyncio

import av
import numpy as np
import pytest

from compositor.speech.espeak.process import installed
from compositor.speech.settings import SpeechSettings
from streamkit.ops import catalog
from streamkit.wire.pb import compositor_pb2 as pb
from tests.support.compositor import compositor
from tests.support.inference import inference
from tests.support.sound import pcm, speech

pytestmark = pytest.mark.slow
RATE = 24_000
PIECE = RATE // 5


@pytest.fixture(scope="module")
def mouths(tmp_path_factory):
    with inference(tmp_path_factory.mktemp("inference")) as process:
        yield str(process.ready["url"]).removeprefix("grpc://")


def heard(units) -> np.ndarray:
    """Return the loudness of each unit's sound, as it is decoded."""
    decoder = av.CodecContext.create("opus", "r")
    decoder.sample_rate, decoder.layout = 48_000, "mono"
    packets = [packet.data for unit in units for packet in unit.audio]
    frames = [frame.to_ndarray().reshape(-1) for data in packets for frame in decoder.decode(av.Packet(data))]
    samples = np.concatenate(frames).reshape(len(units), 1_920)
    return np.sqrt(np.square(samples.astype(np.float64)).mean(axis=1))


def seen(units) -> np.ndarray:
    """Return how dark the middle of the mouth is in each unit's picture; NaN where it has none."""
    decoder = av.CodecContext.create("h264", "r")
    decoder.thread_count = 1
    with_picture = [at for at, unit in enumerate(units) if unit.video]
    frames = [frame for at in with_picture for frame in decoder.decode(av.Packet(units[at].video[0].data))]
    frames += decoder.decode(None)
    dark = np.full(len(units), np.nan)
    for at, frame in zip(with_picture, frames, strict=True):
        dark[at] = 255 - frame.to_ndarray()[146:158, 124:132].mean()
    return dark


def together(units) -> tuple[float, int]:
    """Return how well lips and loudness agree, and by how many ticks the lips are late where they agree best."""
    loud, dark = heard(units), seen(units)
    speaking = np.array([unit.speaking for unit in units])
    at = np.flatnonzero(speaking & ~np.isnan(dark))
    found = {}
    for lag in range(-6, 7):
        pairs = [(loud[one - lag], dark[one]) for one in at if 0 <= one - lag < len(units)]
        found[lag] = float(np.corrcoef(np.array(pairs).T)[0, 1])
    best = max(found, key=found.__getitem__)
    return found[best], best


def test_lips_and_sound_of_a_posted_sound_are_together(mouths):
    sound = pcm(speech(2.4, RATE))

    async def scenario() -> None:
        settings = SpeechSettings(espeak=False)
        async with compositor(mouths, speech=settings) as door, door.session(pb.H264) as caller:
            await caller.shown(3)
            await door.warm()
            for at in range(0, len(sound), 2 * PIECE):
                piece = sound[at : at + 2 * PIECE]
                last = at + 2 * PIECE >= len(sound)
                await caller.send(
                    sound=pb.Sound(epoch=1, speech=1, pcm=piece, sample_rate=RATE, channels=1, end=last)
                )
            mark = await caller.marked(pb.Mark.FINISHED, 1)
            assert mark.position_ms == 2_400
            agreement, late = together(caller.units)
            print(f"posted sound: correlation {agreement:.2f}, lips late by {late} ticks")
            assert agreement > 0.7
            assert abs(late) <= 1
            assert door.metrics.value(catalog.SPEECH_PENDING) == 0

    asyncio.run(scenario())


@pytest.mark.skipif(not installed(), reason="needs espeakng-loader: pip install 'headrace[speech]'")
def test_a_spoken_text_moves_the_lips_and_an_interrupt_ends_both(mouths):
    async def scenario() -> None:
        async with compositor(mouths, speech=SpeechSettings()) as door, door.session(pb.H264) as caller:
            await caller.shown(3)
            await door.warm()
            await caller.send(say=pb.Say(epoch=1, speech=1, text="**Good morning!** It rained all day."))
            await caller.marked(pb.Mark.FINISHED, 1)
            agreement, late = together(caller.units)
            print(f"spoken text: correlation {agreement:.2f}, lips late by {late} ticks")
            assert agreement > 0.6
            assert abs(late) <= 1
            await caller.send(say=pb.Say(epoch=1, speech=2, text="This goes on and on. " * 50))
            await caller.marked(pb.Mark.STARTED, 2)
            await caller.send(interrupt=pb.Interrupt(epoch=2))
            mark = await caller.marked(pb.Mark.FINISHED, 2)
            assert mark.interrupted
            assert mark.position_ms < 2_000
            await caller.shown(5)
            assert not caller.units[-1].speaking
            assert door.metrics.value(catalog.SPEECH_OPEN) == 0
            assert door.metrics.value(catalog.SPEECH_PENDING) == 0

    asyncio.run(scenario())
