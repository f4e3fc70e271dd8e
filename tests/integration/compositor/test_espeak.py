"""espeak-ng in its own process: real sound, stopped in the middle, killed, started again, given up."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

import numpy as np
import pytest

from compositor.audio.meters import Meters
from compositor.speech.espeak.engine import EspeakEngine
from compositor.speech.espeak.process import EspeakProcess, installed
from compositor.speech.settings import SpeechSettings
from streamkit.ops import catalog
from streamkit.ops.metrics import Metrics
from streamkit.wire.errors import Code, HeadraceError
from tests.support.processes import alive
from tests.support.sound import become

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.skipif(not installed(), reason="needs espeakng-loader: pip install 'headrace[speech]'"),
]


def mapped() -> str:
    """Return the files that this process has in its memory."""
    return Path("/proc/self/maps").read_text()


async def started(metrics: Metrics, **settings) -> EspeakEngine:
    engine = EspeakEngine(SpeechSettings(**settings), Meters(metrics))
    await engine.start()
    assert engine.problem() == ""
    return engine


async def spoken(engine: EspeakEngine, text: str, voice: str = "espeak:en-us") -> np.ndarray:
    return np.frombuffer(b"".join([piece async for piece in engine.speak(text, voice)]), "<i2")


async def test_it_speaks_many_languages_stops_and_leaves_nothing_behind():
    metrics = Metrics()
    engine = await started(metrics)
    pid = engine.pid
    assert {"espeak:en-us", "espeak:de", "espeak:fr-fr"} <= set(engine.names())
    assert engine.sample_rate == 22_050
    english = await spoken(engine, "Good morning.\nHow are you?")
    german = await spoken(engine, "Guten Morgen.\nWie geht es?", "espeak:de")
    for sound in (english, german):
        assert 0.8 < len(sound) / 22_050 < 5
        assert np.sqrt(np.mean(np.square(sound / 32_768))) > 0.01
    # Its licence keeps it out of our process.
    assert "espeakng_loader" not in sys.modules
    assert "espeak" not in mapped()
    # A reader that is slow or leaves keeps nobody from speaking.
    slow = engine.speak("This is one sentence. " * 50, "espeak:en-us")
    await anext(slow)
    assert len(await spoken(engine, "Me too.")) > 10_000
    await slow.aclose()
    # One that is cut off in the middle of a sentence stops it, and the next one gets none of its sound.
    async with engine._turn:
        process = await engine._running()
        speaking = asyncio.create_task(process.speak("number " * 28, "en-us", 80))
        await asyncio.sleep(0)
        speaking.cancel()
        await asyncio.wait([speaking])
        assert speaking.cancelled()
    assert len(await spoken(engine, "Me too.")) < 40_000
    assert engine.pid == pid
    await engine.aclose()
    assert pid is not None
    assert not alive(pid)
    assert metrics.value(catalog.SPEECH_RESTARTS, "espeak") == 0


async def test_a_death_fails_the_sentence_and_the_next_one_is_spoken_by_another_process():
    metrics = Metrics()
    engine = await started(metrics, espeak_restarts=1)
    first = engine.pid
    assert first is not None
    os.kill(first, signal.SIGSTOP)
    speaking = asyncio.create_task(spoken(engine, "Good morning."))
    await asyncio.sleep(0)
    os.kill(first, signal.SIGKILL)
    with pytest.raises(HeadraceError, match="was ended by signal 9 in the middle of a sentence") as caught:
        await speaking
    assert caught.value.code is Code.BACKEND_ERROR
    assert len(await spoken(engine, "Good morning.")) > 10_000
    assert engine.pid not in (None, first)
    assert metrics.value(catalog.SPEECH_RESTARTS, "espeak") == 1
    # Once is allowed; after the second time it is given up, and says so.
    os.kill(engine.pid, signal.SIGKILL)
    await become(lambda: engine.problem() != "")
    with pytest.raises(HeadraceError, match="died 2 times within 60 s and was given up"):
        await spoken(engine, "Hm.")
    assert engine.names() == ()
    await engine.aclose()


async def test_a_voice_that_it_does_not_have_is_its_own_error():
    process = await EspeakProcess.start()
    with pytest.raises(HeadraceError, match="espeak-ng has no voice tlh"):
        await process.speak("Qapla", "tlh", 165)
    assert await process.speak("Fine.", "en-us", 165)
    await process.aclose()
    assert not alive(process.process.pid)


async def test_where_it_is_not_installed_nobody_speaks(monkeypatch):
    monkeypatch.setattr("compositor.speech.espeak.engine.installed", lambda: False)
    engine = EspeakEngine(SpeechSettings(), Meters(Metrics()))
    await engine.start()
    assert engine.names() == ()
    assert engine.problem() == "espeak-ng is not installed: pip install 'headrace[speech]'"
    await engine.aclose()
