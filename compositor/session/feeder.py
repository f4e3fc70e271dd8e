"""From voices to shown ticks: takes ticks of the utterances in order, asks for their mouths ahead of time."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np

from compositor.contracts import FEATURE_SHAPE, SpeechTick
from compositor.mouths.stream import Wanted
from compositor.session.lines import Line, Lines
from streamkit.flow.clock import Clock
from streamkit.wire.errors import Code, HeadraceError

__all__ = ["Feeder", "Mouths", "Ready"]

_log = logging.getLogger(__name__)
#: Utterances that are begun before their turn: their first sounds are there when it comes.
_BEGUN: Final = 2
_FIRST_BATCH: Final = 2
#: Ticks that wait when a microphone's face is taken to be behind.
_BEHIND: Final = 4


class Mouths(Protocol):
    """Who makes mouths."""

    async def ask(self, wanted: Sequence[Wanted]) -> list[bytes]:
        """Return mouths in the order of `wanted`.

        Raises:
            HeadraceError: there are none.
        """
        ...

    def cancel(self) -> None:
        """Forget what is asked."""
        ...


@dataclass(eq=False, slots=True)
class Ready:
    """A tick of speech on its way to the picture.

    Args:
        line: what it belongs to.
        tick: its sound, and what its mouth is made of.
        position: where on the template it is shown.
        asked_s: when its mouth was asked for.
        mouth: None = not there yet, or there is none.
        pending: whether it may still come.
        inference_s: how long it took; 0 = there is none.
        ready_s: when it stopped being pending.
    """

    line: Line
    tick: SpeechTick
    position: int
    asked_s: float
    mouth: bytes | None = None
    pending: bool = True
    inference_s: float = 0.0
    ready_s: float = 0.0


class Feeder:
    """Keeps a queue of ticks ahead of the picture.

    Args:
        lines: the utterances.
        mouths: who makes mouths.
        frame_of: from a position to the template's frame.
        next_position: where the next tick could be shown if nothing were queued.
        lookahead: ticks that may be queued.
        max_batch: mouths in one request.
        wait_s: how long a voice may give nothing.
        clock: the time.
        on_mouthless: told how many mouths there will not be, and why.
        on_caught_up: told of a tick of a microphone's silence that was left out.
    """

    def __init__(
        self,
        lines: Lines,
        mouths: Mouths,
        *,
        frame_of: Callable[[int], int],
        next_position: Callable[[], int],
        lookahead: int,
        max_batch: int,
        wait_s: float,
        clock: Clock,
        on_mouthless: Callable[[int, HeadraceError], None],
        on_caught_up: Callable[[], None],
    ) -> None:
        self.queue: deque[Ready] = deque()
        #: Utterances that are being let go of.
        self.closing: set[asyncio.Task[None]] = set()
        self._lines, self._mouths = lines, mouths
        self._frame_of, self._next_position = frame_of, next_position
        self._lookahead, self._max_batch = lookahead, max_batch
        self._wait_s = wait_s
        self._clock = clock
        self._on_mouthless = on_mouthless
        self._on_caught_up = on_caught_up
        self._arrived: deque[tuple[Line, SpeechTick]] = deque()
        self._wake = asyncio.Event()
        self._room = asyncio.Event()
        self._asks: set[asyncio.Task[None]] = set()
        self._pulling: asyncio.Task[None] | None = None
        self._pulled: Line | None = None
        self._batch = _FIRST_BATCH

    async def run(self) -> None:
        """Feed until cancelled; then `close`."""
        while True:
            self._begin()
            self._pull_next()
            self._send()
            await self._wake.wait()
            self._wake.clear()

    def nudge(self) -> None:
        """Look again: an utterance was added, or a tick was taken from the queue."""
        self._room.set()
        self._wake.set()

    def drop(self, dropped: Sequence[Line]) -> None:
        """Let go of utterances at once, and of all that was made ready of them."""
        gone = set(map(id, dropped))
        if self._pulling is not None and id(self._pulled) in gone:
            self._pulling.cancel()
            self._pulling = None
        kept = deque(ready for ready in self.queue if id(ready.line) not in gone)
        self.queue.clear()
        self.queue.extend(kept)
        self._arrived = deque((line, tick) for line, tick in self._arrived if id(line) not in gone)
        if not self.queue:
            # What was asked would only be in the way of what comes next.
            for task in self._asks:
                task.cancel()
            self._mouths.cancel()
        for line in dropped:
            self._close(line)
        self.nudge()

    def close(self) -> None:
        """Let go of everything."""
        if self._pulling is not None:
            self._pulling.cancel()
        for task in self._asks:
            task.cancel()
        for line in self._lines:
            line.closed = True
            self._close(line)
        self.queue.clear()
        self._arrived.clear()

    def _pull_next(self) -> None:
        if self._pulling is not None and not self._pulling.done():
            return
        for line in self._lines:
            if not line.over:
                self._pulled = line
                self._pulling = asyncio.create_task(self._pull(line), name="voice")
                return

    def _begin(self) -> None:
        """Begin what comes next, so that its first sounds are there when it does."""
        while (line := self._lines.unopened(_BEGUN)) is not None:
            try:
                line.speech = line.opener()
            except HeadraceError as error:
                line.over, line.failure = True, error.message

    async def _pull(self, line: Line) -> None:
        """Take all of an utterance's ticks, no faster than there is room for them."""
        try:
            if line.speech is None:
                raise RuntimeError("an utterance is begun before it is pulled")
            ticks = line.speech.ticks()
            while True:
                async with asyncio.timeout(self._wait_s):
                    tick = await anext(ticks, None)
                if tick is None:
                    return
                _check(tick)
                if self._behind(line) and not tick.voiced:
                    self._on_caught_up()
                    continue
                while len(self.queue) + len(self._arrived) >= self._lookahead:
                    self._room.clear()
                    await self._room.wait()
                line.taken += 1
                self._arrived.append((line, tick))
                self._wake.set()
        except HeadraceError as error:
            line.failure = error.message
        except TimeoutError:
            line.failure = f"nothing was heard of it for {self._wait_s:g} s (speech_wait_ms)"
        except Exception:  # noqa: BLE001  the task's outermost frame: this utterance fails, the session goes on
            _log.exception("speech.broke")
            line.failure = "the voice failed"
        finally:
            if not line.closed:
                line.over = True
                self._close(line)
            self._wake.set()

    def _behind(self, line: Line) -> bool:
        """Say whether a microphone's face has fallen behind it: then pauses are shortened, and no sound is lost."""
        return len(self.queue) + len(self._arrived) >= _BEHIND and line.live(self._clock())

    def _send(self) -> None:
        """Queue what arrived, and ask for its mouths."""
        while self._arrived:
            batch: list[Ready] = []
            now_s = self._clock()
            while self._arrived and len(batch) < self._batch:
                line, tick = self._arrived.popleft()
                at = self.queue[-1].position + 1 if self.queue else self._next_position()
                ready = Ready(line, tick, at, now_s)
                self.queue.append(ready)
                batch.append(ready)
            self._batch = min(self._max_batch, self._batch * 2)
            task = asyncio.create_task(self._ask(batch), name="ask")
            self._asks.add(task)
            task.add_done_callback(self._asks.discard)
        if not self.queue:
            self._batch = _FIRST_BATCH

    async def _ask(self, batch: list[Ready]) -> None:
        wanted = [Wanted(self._frame_of(ready.position), ready.tick.features) for ready in batch]
        try:
            mouths = await self._mouths.ask(wanted)
            took_s = self._clock() - batch[0].asked_s
            for ready, mouth in zip(batch, mouths, strict=True):
                ready.mouth, ready.inference_s = mouth, took_s
        except HeadraceError as error:
            self._on_mouthless(len(batch), error)
        except Exception:  # noqa: BLE001  the task's outermost frame: these ticks are heard without a mouth
            _log.exception("mouths.broke")
            self._on_mouthless(len(batch), HeadraceError(Code.INTERNAL, "mouths could not be asked for"))
        finally:
            now_s = self._clock()
            for ready in batch:
                ready.pending, ready.ready_s = False, now_s

    def _close(self, line: Line) -> None:
        speech, line.speech = line.speech, None
        if speech is None:
            return
        task = asyncio.create_task(speech.aclose(), name="close speech")
        self.closing.add(task)
        task.add_done_callback(self._closed)

    def _closed(self, task: asyncio.Task[None]) -> None:
        self.closing.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("speech.close_failed", exc_info=error)


def _check(tick: SpeechTick) -> None:
    if tick.features.shape != FEATURE_SHAPE or tick.features.dtype != np.float32:
        raise TypeError(
            f"features: expected float32 {FEATURE_SHAPE}, got {tick.features.dtype} {tick.features.shape}"
        )
