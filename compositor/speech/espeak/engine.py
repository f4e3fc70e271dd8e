"""Voices of espeak-ng: one process for all who speak, started again when it dies, given up when that is too often."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncGenerator
from typing import Final

from compositor.audio.meters import Meters
from compositor.speech.espeak.process import EspeakProcess, installed
from compositor.speech.settings import SpeechSettings
from compositor.speech.text import pieces
from streamkit.flow.clock import MONOTONIC, Clock
from streamkit.ops import log
from streamkit.wire.errors import Code, HeadraceError

__all__ = ["EspeakEngine"]

_log = logging.getLogger(__name__)
_PREFIX: Final = "espeak:"
#: Leads the list: most of what models answer is English.
_USUAL: Final = "en-us"
#: Of text at a time: the process is everybody's, and this takes it a few milliseconds.
_PIECE_CHARACTERS: Final = 200
_MISSING: Final = "espeak-ng is not installed: pip install 'headrace[speech]'"
#: Before it first spoke nobody knows its rate; it has had this one for twenty years.
_RATE: Final = 22_050


class EspeakEngine:
    """The process and its turns.

    Args:
        settings: `espeak_*` of them.
        meters: counts.
        clock: monotonic.
    """

    name = "espeak"

    def __init__(self, settings: SpeechSettings, meters: Meters, *, clock: Clock = MONOTONIC) -> None:
        self._settings = settings
        self._meters = meters
        self._clock = clock
        self._process: EspeakProcess | None = None
        self._problem = "espeak-ng was not started"
        self._voices: tuple[str, ...] = ()
        self._rate = _RATE
        self._turn = asyncio.Lock()
        self._deaths: deque[float] = deque()
        self._keeping: asyncio.Task[None] | None = None
        #: Set whenever there is another process, or none any more; whoever waits takes a new one.
        self._changed = asyncio.Event()

    @property
    def sample_rate(self) -> int:
        """Of what it gives."""
        return self._rate

    @property
    def pid(self) -> int | None:
        """The process, while there is one."""
        return None if self._process is None else self._process.process.pid

    async def start(self) -> None:
        """Start the process, and a task that starts it again."""
        if not installed():
            self._problem = _MISSING
            return
        try:
            await self._begin()
        except HeadraceError as error:
            self._problem = error.message
            return
        self._keeping = asyncio.create_task(self._keep(), name="espeak keeper")

    def names(self) -> tuple[str, ...]:
        """Name its voices: `espeak:` and a language."""
        return () if self._problem else self._voices

    def problem(self) -> str:
        """Say why it has no voices."""
        return self._problem

    async def speak(self, text: str, voice: str) -> AsyncGenerator[bytes, None]:
        """Give the samples of a text, a sentence at a time.

        Raises:
            HeadraceError: the process died, or is given up.
        """
        language = voice.removeprefix(_PREFIX)
        for piece in pieces(text, _PIECE_CHARACTERS):
            async with self._turn:
                process = await self._running()
                samples = await process.speak(piece, language, self._settings.espeak_wpm)
            if samples:
                yield samples

    async def aclose(self) -> None:
        """End the process."""
        if self._keeping is not None:
            self._keeping.cancel()
            await asyncio.wait([self._keeping])
        if self._process is not None:
            await self._process.aclose()
            self._process = None
        self._problem = "espeak-ng was stopped"
        self._pulse()

    async def _running(self) -> EspeakProcess:
        """Return the process, waiting while it is being started again.

        Raises:
            HeadraceError: there is none and none will come.
        """
        while self._process is None or self._process.ended.is_set():
            if self._problem:
                raise HeadraceError(Code.NO_BACKEND, self._problem)
            await self._changed.wait()
        return self._process

    def _pulse(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    async def _begin(self) -> None:
        self._process = await EspeakProcess.start()
        self._rate = self._process.hello.rate
        # The first is the voice of who names none: not that of the alphabet's first language.
        languages = sorted(self._process.hello.voices, key=lambda language: (language != _USUAL, language))
        self._voices = tuple(_PREFIX + language for language in languages)
        self._problem = ""
        self._pulse()

    async def _keep(self) -> None:
        """Start the process again whenever it is gone, as often as the settings allow."""
        settings = self._settings
        window_s = settings.espeak_window_ms / 1000
        while self._process is not None:
            await self._process.ended.wait()
            status, self._process = self._process.process.returncode, None
            now = self._clock()
            self._deaths.append(now)
            while self._deaths[0] < now - window_s:
                self._deaths.popleft()
            log.event(_log, "speech.espeak_died", level=logging.WARNING, status=status, deaths=len(self._deaths))
            if len(self._deaths) > settings.espeak_restarts:
                self._problem = (
                    f"espeak-ng died {len(self._deaths)} times within {window_s:g} s and was given up:"
                    " restart the compositor"
                )
                self._pulse()
                return
            try:
                await self._begin()
            except HeadraceError as error:
                self._problem = error.message
                self._pulse()
                return
            self._meters.restarted(self.name)
