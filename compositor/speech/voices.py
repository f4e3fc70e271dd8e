"""All who can speak here, and who listens: `compositor.contracts.Voices`."""

from __future__ import annotations

import logging
import os
from collections.abc import AsyncGenerator, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Final

from compositor.audio.encoder import AudioEncoder, RemoteEncoder
from compositor.audio.meters import Meters
from compositor.audio.resample import check_format
from compositor.audio.utterance import Utterance, Workshop
from compositor.contracts import Sound, Speech
from compositor.speech.engine import Engine
from compositor.speech.espeak.engine import EspeakEngine
from compositor.speech.openai import OpenAiEngine
from compositor.speech.settings import SpeechSettings
from compositor.speech.spoken import Spoken
from compositor.speech.text import MAX_CHARACTERS, speakable
from streamkit.flow.clock import MONOTONIC, Clock
from streamkit.ops import log
from streamkit.ops.metrics import Metrics
from streamkit.wire.errors import Code, HeadraceError

if TYPE_CHECKING:
    from streamkit.wire.pb.inference_pb2_grpc import InferenceServiceAsyncStub

__all__ = ["SpeechVoices"]

_log = logging.getLogger(__name__)

#: For resampling, mels and Opus of all utterances: each holds a core for a few percent of its speech's time.
_THREADS: Final = 2


class SpeechVoices:
    """The engines that the settings name.

    Args:
        settings: `[speech]`.
        encoder: makes features.
        meters: counts.
        environment: where keys are looked up.
        clock: monotonic.
    """

    def __init__(
        self,
        settings: SpeechSettings,
        encoder: AudioEncoder,
        meters: Meters,
        *,
        environment: Mapping[str, str] = os.environ,
        clock: Clock = MONOTONIC,
    ) -> None:
        self._settings = settings
        self._meters = meters
        self._clock = clock
        self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="sound")
        self._shop = Workshop(encoder, self._pool, meters, settings.opus_bitrate_bps, clock)
        self._engines: list[Engine] = []
        if settings.openai_url:
            self._engines.append(OpenAiEngine(settings, environment))
        if settings.espeak:
            self._engines.append(EspeakEngine(settings, meters, clock=clock))

    @classmethod
    def on(
        cls, settings: SpeechSettings, stub: Callable[[], InferenceServiceAsyncStub], metrics: Metrics
    ) -> SpeechVoices:
        """Return voices whose encoder is on the inference server that `stub` calls; `start` them."""
        meters = Meters(metrics)
        encoder = RemoteEncoder(
            stub,
            settings.encoder,
            timeout_ms=settings.encoder_timeout_ms,
            meters=meters,
            batch=settings.encoder_batch,
        )
        return cls(settings, encoder, meters)

    async def start(self) -> None:
        """Start what is to run; a voice that cannot is told by `problem`."""
        for engine in self._engines:
            await engine.start()
            log.event(_log, "speech.voices", engine=engine.name, voices=len(engine.names()), why=engine.problem())
        if problem := self.problem():
            log.event(_log, "speech.none", level=logging.WARNING, why=problem)

    async def aclose(self) -> None:
        """Let go of everything; whoever still speaks was closed before."""
        for engine in self._engines:
            await engine.aclose()
        self._pool.shutdown(wait=False)

    def names(self) -> tuple[str, ...]:
        """Name the voices that can be asked for."""
        return tuple(name for engine in self._engines for name in engine.names())

    def usual(self) -> str:
        """Name the voice of who names none; empty = there is none."""
        names, chosen = self.names(), self._settings.default_voice
        return chosen if chosen in names else "" if chosen or not names else names[0]

    def problem(self) -> str:
        """Say why there is no voice at all; empty = there is one."""
        if self.names():
            return ""
        told = [problem for engine in self._engines if (problem := engine.problem())]
        return "; ".join(told) or "no voice is configured: [speech] has neither openai_url nor espeak"

    def say(self, text: str, voice: str) -> Speech:
        """Begin to speak `text`; what is written but not spoken (marks, code, emoji) is left out.

        Args:
            text: at most `MAX_CHARACTERS`.
            voice: one of `names`; empty = the default one.

        Raises:
            HeadraceError: the text is too long, there is no such voice, or none at all.
        """
        begun = self._clock()
        if len(text) > MAX_CHARACTERS:
            raise HeadraceError(
                Code.INVALID_REQUEST,
                f"text: expected at most {MAX_CHARACTERS} characters, got {len(text)}",
                param="text",
            )
        if problem := self.problem():
            raise HeadraceError(Code.NO_BACKEND, f"nobody can speak: {problem}", param="voice")
        wanted = voice or self._settings.default_voice or self.names()[0]
        engine = next((one for one in self._engines if wanted in one.names()), None)
        if engine is None:
            raise HeadraceError(Code.NOT_FOUND, f"voice: there is no {wanted[:128]}", param="voice")

        def first() -> None:
            self._meters.first_audio(engine.name, self._clock() - begun)

        said = speakable(text)
        # A text without a word is an utterance without a tick.
        samples = engine.speak(said, wanted) if said else _nothing()
        return Spoken(self._shop, samples, engine.sample_rate, first)

    def hear(self, sample_rate: int, channels: int) -> Sound:
        """Begin to listen.

        Raises:
            HeadraceError: a rate or a number of channels that cannot be taken.
        """
        check_format(sample_rate, channels)
        return Utterance(self._shop, sample_rate, channels)


async def _nothing() -> AsyncGenerator[bytes, None]:
    for piece in tuple[bytes, ...]():
        yield piece
