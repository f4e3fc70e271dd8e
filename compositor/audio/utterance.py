"""One utterance: samples come in, ticks go out, and a task between them makes no more than a second ahead."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from compositor.audio.encoder import AudioEncoder
from compositor.audio.frontend import Frontend, Heard, TickSound
from compositor.audio.meters import Meters, Outcome
from compositor.audio.opus import BITRATE_BPS
from compositor.audio.windows import FeatureWindows
from compositor.contracts import TICK_MS, SpeechTick
from streamkit.flow.clock import MONOTONIC, Clock
from streamkit.ops import log
from streamkit.wire.errors import Code, HeadraceError

__all__ = ["AHEAD_TICKS", "MAX_PENDING_S", "Utterance", "Workshop"]

_log = logging.getLogger(__name__)
#: Samples that may wait.
MAX_PENDING_S: Final = 10
#: Ticks that may wait for their reader: a second.
AHEAD_TICKS: Final = 1000 // TICK_MS
#: Samples that a voice may be ahead of what is made of them.
_VOICE_AHEAD_S: Final = 1
#: Samples that go through the front end at a time: the encoder's batch.
_BITE_MS: Final = 640
#: What a `SpeechTick` without its packets takes.
_TICK_BYTES: Final = 32 * 16 * 16 * 4


@dataclass(frozen=True, slots=True)
class Workshop:
    """What all utterances share.

    Args:
        encoder: makes features.
        pool: threads for resampling, mels and Opus.
        meters: counts.
        bitrate_bps: of Opus.
        clock: monotonic.
    """

    encoder: AudioEncoder
    pool: Executor
    meters: Meters
    bitrate_bps: int = BITRATE_BPS
    clock: Clock = MONOTONIC


class Utterance:
    """Sound that drives a face: `compositor.contracts.Sound`, and what a voice needs beside it.

    Args:
        workshop: shared.
        sample_rate: in Hz.
        channels: 1 or 2.

    Raises:
        HeadraceError: a rate or a number of channels that cannot be taken.
    """

    def __init__(self, workshop: Workshop, sample_rate: int, channels: int) -> None:
        self._shop = workshop
        self._frontend = Frontend(sample_rate, channels, bitrate_bps=workshop.bitrate_bps)
        self._frame_bytes = 2 * channels
        self._second_bytes = sample_rate * self._frame_bytes
        self._bite_bytes = self._second_bytes * _BITE_MS // 1000 // self._frame_bytes * self._frame_bytes
        #: Samples and when they came.
        self._pieces: deque[tuple[bytes, float]] = deque()
        self._waiting_bytes = 0
        self._held_bytes = 0
        self._ended_s: float | None = None
        self._failure: HeadraceError | None = None
        self._closed = False
        self._over = False
        self._ticks: deque[SpeechTick] = deque()
        #: Set whenever anything above changed; whoever waits takes a new one.
        self._changed = asyncio.Event()
        self._features = FeatureWindows()
        self._sounds: deque[TickSound] = deque()
        workshop.meters.opened()
        self._task = asyncio.create_task(self._make(), name="utterance")

    def push(self, pcm: bytes) -> None:
        """Take samples; after `aclose` they are dropped.

        Raises:
            HeadraceError: half a sample, samples after the end, or more than `MAX_PENDING_S` would wait.
        """
        self._check(pcm)
        if self._waiting_bytes + len(pcm) > MAX_PENDING_S * self._second_bytes:
            raise HeadraceError(
                Code.SATURATED,
                f"pcm: at most {MAX_PENDING_S} s of samples may wait, and {self._waiting_s:.1f} s do",
                param="pcm",
            )
        self._take(pcm)

    async def feed(self, pcm: bytes) -> None:
        """Take samples of any length, as fast as ticks are made of them.

        Raises:
            HeadraceError: half a sample, or samples after the end.
        """
        self._check(pcm)
        for at in range(0, len(pcm), self._bite_bytes):
            while not self._over and self._waiting_bytes >= _VOICE_AHEAD_S * self._second_bytes:
                await self._change()
            self._take(pcm[at : at + self._bite_bytes])

    def end(self) -> None:
        """Take the end: nothing more follows."""
        if self._ended_s is None:
            self._ended_s = self._shop.clock()
            self._pulse()

    def fail(self, error: HeadraceError) -> None:
        """Take the end of a voice that broke off: what came before it is said, then the error is raised."""
        if self._ended_s is None:
            self._failure = error
            self.end()

    async def ticks(self) -> AsyncIterator[SpeechTick]:
        """Give the ticks in order; the end of the iteration is the end of the speech, or of its being open.

        Raises:
            HeadraceError: the voice or the encoder failed; what came before stands.
        """
        while True:
            while not self._ticks:
                if self._over:
                    if self._failure is not None and not self._closed:
                        raise self._failure
                    return
                await self._change()
            tick = self._ticks.popleft()
            self._hold(-_weight(tick))
            self._pulse()
            yield tick

    async def aclose(self) -> None:
        """Stop at once and let go of everything; harmless when repeated."""
        self._closed = True
        self._task.cancel()
        await asyncio.wait([self._task])
        # A task that never began has no end of its own.
        self._settle("closed")
        while self._ticks:
            self._hold(-_weight(self._ticks.popleft()))

    @property
    def _waiting_s(self) -> float:
        return self._waiting_bytes / self._second_bytes

    def _check(self, pcm: bytes) -> None:
        if len(pcm) % self._frame_bytes:
            raise HeadraceError(
                Code.INVALID_REQUEST,
                f"pcm: expected whole samples of {self._frame_bytes} bytes, got {len(pcm)} bytes",
                param="pcm",
            )
        if self._ended_s is not None and not self._over:
            raise HeadraceError(Code.INVALID_REQUEST, "pcm: expected nothing after the end", param="pcm")

    def _take(self, pcm: bytes) -> None:
        if self._over or not pcm:
            return
        self._pieces.append((pcm, self._shop.clock()))
        self._waiting_bytes += len(pcm)
        self._hold(len(pcm))
        self._pulse()

    def _hold(self, size_bytes: int) -> None:
        self._held_bytes += size_bytes
        self._shop.meters.pending_bytes.value += size_bytes

    def _drop(self) -> None:
        self._pieces.clear()
        self._hold(-self._waiting_bytes)
        self._waiting_bytes = 0

    def _pulse(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    async def _change(self) -> None:
        await self._changed.wait()

    async def _make(self) -> None:
        outcome: Outcome = "closed"
        try:
            await self._made()
            outcome = "finished" if self._failure is None else "failed"
        except HeadraceError as error:
            self._failure, outcome = error, "failed"
        except Exception as error:  # noqa: BLE001  the task's outermost frame: this utterance fails, and it is logged
            log.event(_log, "speech.failed", level=logging.ERROR, why=f"{type(error).__name__}: {error}")
            self._failure, outcome = HeadraceError(Code.INTERNAL, "the sound could not be prepared"), "failed"
        finally:
            self._settle(outcome)

    def _settle(self, outcome: Outcome) -> None:
        if self._over:
            return
        self._over = True
        self._drop()
        self._shop.meters.ended(outcome)
        self._pulse()

    async def _made(self) -> None:
        last = False
        while not last:
            while not self._pieces and self._ended_s is None:
                await self._change()
            bites = self._bites()
            last = not self._pieces and self._ended_s is not None
            heard = await self._heard(bites, self._ended_s if last else None)
            self._sounds.extend(sound for one, _ in heard for sound in one.sounds)
            mels = np.concatenate([one.mels for one, _ in heard])
            needed = [at for one, at in heard for _ in range(len(one.mels))]
            if len(mels):
                features = await self._shop.encoder.encode(mels)
                for row, at in zip(features, needed, strict=True):
                    for window in self._features.feed(row[None]):
                        await self._put(window, at)
        for window in self._features.finish(self._frontend.ticks):
            await self._put(window, self._ended_s or 0.0)

    def _bites(self) -> list[tuple[bytes, float]]:
        """Return samples that wait, as many as go through the front end at a time, and when they came."""
        bites: list[tuple[bytes, float]] = []
        left = self._bite_bytes
        while self._pieces and left:
            pcm, at = self._pieces.popleft()
            if len(pcm) > left:
                self._pieces.appendleft((pcm[left:], at))
                pcm = pcm[:left]
            bites.append((pcm, at))
            left -= len(pcm)
        taken = sum(len(pcm) for pcm, _ in bites)
        self._waiting_bytes -= taken
        self._hold(-taken)
        self._pulse()
        return bites

    async def _heard(self, bites: list[tuple[bytes, float]], ended_s: float | None) -> list[tuple[Heard, float]]:
        """Run the front end on a thread; what has begun when this is cancelled is waited for."""

        def work() -> list[tuple[Heard, float]]:
            found = [(self._frontend.feed(pcm), at) for pcm, at in bites]
            if ended_s is not None:
                found.append((self._frontend.finish(), ended_s))
            return found

        job = self._shop.pool.submit(work)
        try:
            return await asyncio.wrap_future(job)
        finally:
            # What has not begun is taken out of the line with the wait for it.
            if not job.done():
                await asyncio.wait([asyncio.wrap_future(job)])

    async def _put(self, features: NDArray[np.float32], needed_at: float) -> None:
        while len(self._ticks) >= AHEAD_TICKS:
            await self._change()
        sound = self._sounds.popleft()
        tick = SpeechTick(features, sound.packets, sound.level, sound.voiced, needed_at)
        self._ticks.append(tick)
        self._hold(_weight(tick))
        self._shop.meters.made(1)
        self._pulse()


def _weight(tick: SpeechTick) -> int:
    return _TICK_BYTES + sum(len(packet.data) for packet in tick.packets)
