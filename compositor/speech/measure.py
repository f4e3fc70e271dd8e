"""What sound costs on its way to a face: `python -m compositor.speech.measure`, for `headrace bench`.

Prints JSON: for each step, milliseconds for each second of speech; several runs, their steps one after the other.
Steps are CPU time of the one thread that they run on; the hop, and the wait for a voice's first sound, are what a
clock on the wall says.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

import msgspec
import numpy as np
from grpc import aio
from numpy.typing import NDArray

from compositor.audio.encoder import RemoteEncoder
from compositor.audio.mel import LogMel
from compositor.audio.meters import Meters
from compositor.audio.opus import OpusEncoder
from compositor.audio.resample import FEATURE_RATE, SOUND_RATE, Resampler
from compositor.audio.vad import BLOCK, VoiceActivity
from compositor.audio.windows import FRAMES, MelWindows
from compositor.speech.espeak.process import installed
from compositor.speech.settings import SpeechSettings
from compositor.speech.voices import SpeechVoices
from streamkit.ops.metrics import Metrics
from streamkit.wire.pb.inference_pb2_grpc import InferenceServiceStub

if TYPE_CHECKING:
    from streamkit.wire.pb.inference_pb2_grpc import InferenceServiceAsyncStub

__all__ = ["First", "Report", "Step", "main"]

#: A voice's usual rate, and how much of it comes at a time.
_RATE: Final = 24_000
_PIECE_S: Final = 0.04
_TIMEOUT_MS: Final = 10_000
_VOICE: Final = "espeak:en-us"


class Step(msgspec.Struct, frozen=True):
    """One step's cost: the median of the runs, and the least and the most."""

    name: str
    ms_per_s: float
    least: float
    most: float
    #: A step that takes as long as the speech itself has 1.
    of_real_time: float


class First(msgspec.Struct, frozen=True):
    """The wait from a text to a voice's first sound, and to its first tick, in milliseconds: median, and the most."""

    voice: str
    samples_ms: float
    samples_most_ms: float
    tick_ms: float
    tick_most_ms: float


class Report(msgspec.Struct, frozen=True):
    """Everything."""

    steps: list[Step]
    #: None = no voice is installed, or there is no server to make features.
    first: First | None


def main(argv: list[str] | None = None) -> int:
    """Measure, print, and return 0."""
    parser = argparse.ArgumentParser(prog="python -m compositor.speech.measure", description=__doc__)
    parser.add_argument("--seconds", type=float, default=10.0, help="of speech in a run (10)")
    parser.add_argument("--runs", type=int, default=5, help="how often (5)")
    parser.add_argument("--inference", metavar="HOST:PORT", help="a server with the model ave; left out = no hop")
    parser.add_argument("--texts", type=int, default=20, help="said to measure the wait for a voice (20)")
    options = parser.parse_args(argv)
    runs: dict[str, list[float]] = {}
    for _ in range(options.runs):
        for name, ms in _run(options.seconds, options.inference).items():
            runs.setdefault(name, []).append(ms / options.seconds)
    steps = [
        Step(name, statistics.median(found), min(found), max(found), statistics.median(found) / 1000)
        for name, found in runs.items()
    ]
    first = asyncio.run(_first(options.inference, options.texts)) if options.inference and installed() else None
    print(msgspec.json.encode(Report(steps, first)).decode())  # noqa: T201  it is what the program is for
    return 0


def _run(seconds: float, inference: str | None) -> dict[str, float]:
    at = np.arange(int(seconds * _RATE)) / _RATE
    swell = 0.5 - 0.5 * np.cos(2 * np.pi * 4 * at)
    speech = 8_000 * swell * np.sin(2 * np.pi * 140 * at + 3 * np.sin(2 * np.pi * 5 * at))
    pieces = _cut(speech.astype("<i2"), _RATE)
    resampler = Resampler(_RATE, 1)
    cost: dict[str, float] = {}
    found = _timed(cost, "resample", lambda: [resampler.feed(piece.tobytes()) for piece in pieces])
    features = _cut(np.concatenate([one.features for one in found]), FEATURE_RATE)
    sound = _cut(np.concatenate([one.sound for one in found]), SOUND_RATE)
    voice = VoiceActivity()
    _timed(
        cost,
        "voice activity",
        lambda: [voice.judge(piece[at : at + BLOCK]) for piece in features for at in range(0, len(piece), BLOCK)],
    )
    mel, windows = LogMel(), MelWindows()
    made = _timed(cost, "mel", lambda: [windows.feed(mel.feed(piece)) for piece in features])
    opus = OpusEncoder()
    _timed(cost, "opus", lambda: [opus.encode(piece) for piece in sound])
    if inference is not None:
        mels = np.concatenate(made)
        for batch in (1, FRAMES):
            cost[f"encoder hop, batches of {batch}"] = asyncio.run(_hops(inference, mels, batch))
    return cost


def _timed(cost: dict[str, float], name: str, work: Callable[[], Any]) -> Any:
    begun = time.thread_time()
    found = work()
    cost[name] = (time.thread_time() - begun) * 1000
    return found


async def _hops(inference: str, mels: NDArray[np.float32], batch: int) -> float:
    """Return how long all windows took, a request after the other, in milliseconds."""
    async with aio.insecure_channel(inference) as channel:
        stub: InferenceServiceAsyncStub = InferenceServiceStub(channel)
        encoder = RemoteEncoder(lambda: stub, "ave", timeout_ms=_TIMEOUT_MS, meters=Meters(Metrics()))
        await encoder.encode(mels[:1])
        begun = time.perf_counter()
        for at in range(0, len(mels), batch):
            await encoder.encode(mels[at : at + batch])
        return (time.perf_counter() - begun) * 1000


async def _first(inference: str, texts: int) -> First:
    """Say a few sentences, one text after the other."""
    samples: list[float] = []
    ticks: list[float] = []
    async with aio.insecure_channel(inference) as channel:
        stub: InferenceServiceAsyncStub = InferenceServiceStub(channel)
        meters = _Listening(Metrics(), samples)
        encoder = RemoteEncoder(lambda: stub, "ave", timeout_ms=_TIMEOUT_MS, meters=meters)
        voices = SpeechVoices(SpeechSettings(), encoder, meters)
        await voices.start()
        try:
            for number in range(texts + 1):
                begun = time.perf_counter()
                speech = voices.say(
                    f"Number {number}: it rained all day. Nobody minded, and then it stopped.", _VOICE
                )
                async for _ in speech.ticks():
                    ticks.append((time.perf_counter() - begun) * 1000)
                    break
                await speech.aclose()
        finally:
            await voices.aclose()
    # The first one loads the model and the language.
    del samples[0], ticks[0]
    return First(_VOICE, statistics.median(samples), max(samples), statistics.median(ticks), max(ticks))


class _Listening(Meters):
    """Meters that keep the waits."""

    def __init__(self, metrics: Metrics, waits_ms: list[float]) -> None:
        super().__init__(metrics)
        self._waits_ms = waits_ms

    def first_audio(self, engine: str, seconds: float) -> None:
        """Keep one."""
        self._waits_ms.append(seconds * 1000)


def _cut(samples: NDArray[Any], rate: int) -> list[NDArray[Any]]:
    """Return whole pieces of the usual length."""
    size = int(rate * _PIECE_S)
    return [samples[at : at + size] for at in range(0, len(samples) - size + 1, size)]


if __name__ == "__main__":
    raise SystemExit(main())
