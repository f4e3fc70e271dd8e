"""From a text to ticks and to mouths: a real inference server, real voices, nothing left behind."""

from __future__ import annotations

import contextlib

import numpy as np
import pytest
from grpc import aio

from compositor.audio.encoder import RemoteEncoder
from compositor.audio.meters import Meters
from compositor.speech.espeak.process import installed
from compositor.speech.settings import SpeechSettings
from compositor.speech.voices import SpeechVoices
from simulator.server import Simulator
from simulator.settings import SimulatorSettings
from streamkit.ops import catalog
from streamkit.ops.metrics import Metrics
from streamkit.wire.errors import Code, HeadraceError
from streamkit.wire.pb import inference_pb2 as pb
from streamkit.wire.pb.inference_pb2_grpc import InferenceServiceStub
from tests.support.inference import inference
from tests.support.processes import until
from tests.support.sound import pcm, rms_of, speech

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend():
    return ("asyncio", {"use_uvloop": True})


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with inference(tmp_path_factory.mktemp("voices"), "max_batch = 16") as process:
        for model in ("ave", "mouth"):
            process.stub.LoadModel(pb.LoadModelRequest(model_id=model), timeout=30)
        yield process


@contextlib.asynccontextmanager
async def voices(server, **settings):
    metrics = Metrics()
    address = str(server.ready["url"]).removeprefix("grpc://")
    async with aio.insecure_channel(address) as channel:
        stub = InferenceServiceStub(channel)
        found = SpeechVoices.on(SpeechSettings(**settings), lambda: stub, metrics)
        await found.start()
        yield found, metrics
        await found.aclose()
    assert metrics.value(catalog.SPEECH_PENDING) == 0
    assert metrics.value(catalog.SPEECH_OPEN) == 0
    held = ("queued", "running", "held_bytes")
    until(lambda: not any(server.gauges()[name] for name in held), what="nothing is held")


async def read(utterance):
    return [tick async for tick in utterance.ticks()]


def lumas(server, ticks) -> np.ndarray:
    """Return how much darker than a bright face each tick's mouth region is, from raw outputs."""
    visual = np.full((1, 6, 320, 320), 0.9, np.float32)
    ref = server.stub.RegisterVisuals(
        pb.RegisterVisualsRequest(model_id="mouth", frames=visual.tobytes()), timeout=30
    ).visual_ref
    found = []
    for at in range(0, len(ticks), 16):
        batch = ticks[at : at + 16]
        audio = b"".join(tick.features.tobytes() for tick in batch)
        answer = server.stub.InferBatch(
            pb.InferBatchRequest(
                model_id="mouth", visual_ref=ref, visual_index=[0] * len(batch), audio_features=audio,
                batch_size=len(batch),
            ),
            timeout=30,
        )  # fmt: skip
        for output in answer.outputs:
            frame = np.frombuffer(output.data, np.float32).reshape(3, 320, 320)
            found.append(float(np.abs(frame - visual[0, :3]).mean()))
    return np.array(found)


async def test_the_mouth_follows_the_sound_and_is_still_in_silence(server):
    sound = speech(1.6, 24_000, silence_s=0.6)
    async with voices(server, espeak=False) as (found, metrics):
        heard = found.hear(24_000, 1)
        heard.push(pcm(sound))
        heard.end()
        ticks = await read(heard)
        await heard.aclose()
        assert metrics.value(catalog.SPEECH_BATCH) > 0
    levels, opened = rms_of(sound, len(ticks), 24_000), lumas(server, ticks)
    assert len(ticks) == 70
    assert np.corrcoef(levels, opened)[0, 1] >= 0.8
    assert opened.max() > 0.01
    # A tick's mouth is drawn from itself and its neighbours: where those are silent, no bit changes.
    still = [at for at in range(3, 67) if not levels[at - 3 : at + 4].any()]
    assert len(still) >= 16
    assert (opened[still] == 0).all()
    assert not any(tick.voiced for tick in ticks[:14])


@pytest.mark.skipif(not installed(), reason="needs espeakng-loader: pip install 'headrace[speech]'")
async def test_a_real_voice_moves_the_mouth(server):
    async with voices(server) as (found, metrics):
        # Who names no voice gets one that reads English, not the alphabet's first language.
        assert (found.usual(), found.names()[0]) == ("espeak:en-us", "espeak:en-us")
        assert len(set(found.names())) == len(found.names()) > 50
        begun = found.say("**Good morning!** It rained all day.", "espeak:en-us")
        ticks = await read(begun)
        await begun.aclose()
        assert metrics.value(catalog.SPEECH_FIRST_AUDIO, "espeak") == 1
        levels = np.array([tick.level for tick in ticks])
        assert np.corrcoef(levels, lumas(server, ticks))[0, 1] >= 0.8
        assert 1.0 < len(ticks) / 25 < 5.0
        # Cut off in the middle, everything is let go of.
        begun = found.say("This goes on and on. " * 100, "")
        async for _ in begun.ticks():
            break
        await begun.aclose()
        assert metrics.value(catalog.SPEECH_PENDING) == 0


async def test_a_voice_from_a_server_and_what_may_be_asked_for(server):
    simulator = await Simulator.start(SimulatorSettings(ttft_ms=1.0, itl_ms=0.2))
    settings = {"openai_url": f"{simulator.url}/v1", "openai_voices": {"anna": "alloy"}, "espeak": False}
    async with voices(server, **settings) as (found, metrics):
        assert (found.names(), found.usual()) == (("anna",), "anna")
        begun = found.say("It rained all day.", "anna")
        ticks = await read(begun)
        await begun.aclose()
        assert len(ticks) > 20
        assert sum(tick.voiced for tick in ticks) > 15
        assert metrics.value(catalog.SPEECH_FIRST_AUDIO, "openai") == 1
        nothing = found.say("\N{GRINNING FACE}", "anna")
        assert await read(nothing) == []
        await nothing.aclose()
        with pytest.raises(HeadraceError, match="voice: there is no bob") as caught:
            found.say("Hello", "bob")
        assert caught.value.code is Code.NOT_FOUND
        with pytest.raises(HeadraceError, match="text: expected at most 4000 characters, got 4001"):
            found.say("x" * 4001, "anna")
        with pytest.raises(HeadraceError, match="sample_rate: expected 8000 to 48000 Hz, got 96000"):
            found.hear(96_000, 1)
    await simulator.close()


async def test_where_nobody_speaks_it_is_said_and_who_listens_still_hears(server):
    async with voices(server, espeak=False) as (found, _):
        assert (found.names(), found.usual()) == ((), "")
        with pytest.raises(HeadraceError, match="nobody can speak: no voice is configured") as caught:
            found.say("Hello", "")
        assert caught.value.code is Code.NO_BACKEND
        heard = found.hear(16_000, 2)
        heard.push(pcm(speech(0.2), 2))
        heard.end()
        assert len(await read(heard)) == 5
        await heard.aclose()


@pytest.mark.slow
async def test_a_server_with_smaller_batches_is_asked_for_those(tmp_path):
    with inference(tmp_path, "max_batch = 4") as small:
        small.stub.LoadModel(pb.LoadModelRequest(model_id="ave"), timeout=30)
        sound = pcm(speech(1.0))
        for batch, told in ((4, None), (16, "batch_size: expected 1 to 4, got")):
            async with voices(small, espeak=False, encoder_batch=batch) as (found, _):
                heard = found.hear(16_000, 1)
                heard.push(sound)
                heard.end()
                if told is None:
                    assert len(await read(heard)) == 25
                else:
                    with pytest.raises(HeadraceError, match=told):
                        await read(heard)
                await heard.aclose()


async def test_an_encoder_that_is_not_there_or_is_none_is_named(server):
    for model, told in (("nobody", "no model nobody here"), ("mouth", "mouth draws mouths")):
        async with voices(server, espeak=False, encoder=model) as (found, _):
            heard = found.hear(16_000, 1)
            heard.push(pcm(speech(0.5)))
            heard.end()
            with pytest.raises(HeadraceError, match=told):
                await read(heard)
            await heard.aclose()
    async with aio.insecure_channel("127.0.0.1:9") as channel:
        encoder = RemoteEncoder(
            lambda: InferenceServiceStub(channel), "ave", timeout_ms=300, meters=Meters(Metrics())
        )
        with pytest.raises(HeadraceError) as caught:
            await encoder.encode(np.zeros((1, 1, 80, 16), np.float32))
        assert caught.value.code in (Code.NO_BACKEND, Code.BACKEND_TIMEOUT)
