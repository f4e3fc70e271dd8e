"""One text on its way to a face: a voice's samples, pumped into an utterance."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing
from typing import Final

from compositor.audio.utterance import Utterance, Workshop
from compositor.contracts import SpeechTick
from streamkit.ops import log
from streamkit.wire.errors import Code, HeadraceError

__all__ = ["MAX_SPEECH_S", "Spoken"]

_log = logging.getLogger(__name__)
#: The longest text that may be asked for takes a slow voice half of it; a voice that never ends is cut off here.
MAX_SPEECH_S: Final = 900


class Spoken:
    """A `compositor.contracts.Speech`.

    Args:
        workshop: shared.
        samples: the voice's, one channel.
        sample_rate: of them, in Hz.
        on_first: called once, when the first samples are there.
    """

    def __init__(
        self,
        workshop: Workshop,
        samples: AsyncGenerator[bytes, None],
        sample_rate: int,
        on_first: Callable[[], None],
    ) -> None:
        self._utterance = Utterance(workshop, sample_rate, 1)
        self._samples = samples
        self._left_bytes = 2 * sample_rate * MAX_SPEECH_S
        self._on_first = on_first
        self._task = asyncio.create_task(self._pump(), name="voice")

    def ticks(self) -> AsyncIterator[SpeechTick]:
        """Give the ticks in order.

        Raises:
            HeadraceError: the voice or the encoder failed; what came before stands.
        """
        return self._utterance.ticks()

    async def aclose(self) -> None:
        """Stop at once and let go of everything; harmless when repeated."""
        self._task.cancel()
        await asyncio.wait([self._task])
        await self._utterance.aclose()

    async def _pump(self) -> None:
        first = True
        try:
            async with aclosing(self._samples) as samples:
                async for pcm in samples:
                    if first:
                        first = False
                        self._on_first()
                    self._left_bytes -= len(pcm)
                    if self._left_bytes < 0:
                        raise HeadraceError(Code.TOO_LARGE, f"the voice speaks for more than {MAX_SPEECH_S} s")
                    await self._utterance.feed(pcm)
            self._utterance.end()
        except HeadraceError as error:
            self._utterance.fail(error)
        except Exception as error:  # noqa: BLE001  the task's outermost frame: this text fails, and it is logged
            log.event(_log, "speech.voice_failed", level=logging.ERROR, why=f"{type(error).__name__}: {error}")
            self._utterance.fail(HeadraceError(Code.INTERNAL, "the voice failed"))
