"""One session of the simulated compositor: the tick, epochs, marks and the window, as the contract has them."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from time import monotonic
from typing import Final

import numpy as np

from simulator.compositor.media import FPS, TICK, Pictures, Samples, Voice, hum, level_of, mono, picture
from simulator.compositor.script import Script
from streamkit.wire.pb import compositor_pb2 as pb

__all__ = ["Session"]

_SILENCE: Final[Samples] = np.zeros(TICK, dtype=np.int16)
_KEYFRAME_S: Final = 0.3


@dataclass
class _Speech:
    epoch: int
    number: int
    #: Of a `Say`; 0 = sound that is given.
    ticks: int = 0
    at: int = 0
    sound: deque[Samples] = field(default_factory=deque)
    ended: bool = False
    started: bool = False


class Session:
    """A session; `run` is its tick.

    Args:
        script: how it behaves.
        opened: what was asked for.
        send: gives the edge a unit.
    """

    def __init__(self, script: Script, opened: pb.Open, send: Callable[[pb.SessionReply], None]) -> None:
        self._script = script
        self._send = send
        self._voice = Voice()
        self._encoders: dict[int, Pictures] = {codec: Pictures(codec) for codec in opened.codecs}
        self._keys: set[int] = set(opened.codecs)
        #: Keyframes that wait until the last one is long enough ago.
        self._asked: set[int] = set()
        self._keyed_at: dict[int, float] = {}
        self._speeches: deque[_Speech] = deque()
        self._marks: list[pb.Mark] = []
        self._epoch = 1
        self._seq = self._acked = 0
        self._ticks = self._skipped = 0
        self._heard_at = 0.0

    def take(self, request: pb.SessionRequest) -> None:
        """Take what the edge says."""
        match request.WhichOneof("request"):
            case "ack":
                self._acked = max(self._acked, request.ack.seq)
            case "say":
                self._heard_at = monotonic()
                say = request.say
                if not say.text or len(say.text) > 4_000:
                    self._refuse("invalid_request", "`text` must be 1 to 4,000 characters.", say.speech)
                elif say.epoch >= self._epoch:
                    ticks = max(2, round(len(say.text) * self._script.ms_per_char * FPS / 1000))
                    self._speeches.append(_Speech(say.epoch, say.speech, ticks))
            case "sound":
                self._sound(request.sound)
            case "interrupt":
                self._interrupt(request.interrupt.epoch)
            case "keyframe":
                self._asked.add(request.keyframe.codec)
            case "codecs":
                wanted = set(request.codecs.codecs)
                self._keys |= wanted - set(self._encoders)
                self._encoders = {
                    codec: self._encoders.get(codec) or Pictures(codec) for codec in wanted & set(self._script.codecs)
                }
            case _:
                pass

    async def run(self) -> None:
        """Tick until cancelled, or until the script says that it dies."""
        began = monotonic()
        while True:
            self._ticks += 1
            await asyncio.sleep(max(0.0, began + self._ticks / FPS - monotonic()))
            if self._seq - self._acked >= self._script.window:
                self._skipped += 1
                self._voice.skip()
                self._keys |= set(self._encoders)
                continue
            self._send(pb.SessionReply(unit=self._unit()))
            if self._script.die_after and self._seq >= self._script.die_after:
                return

    def _unit(self) -> pb.Unit:
        samples, speaking, epoch = self._next()
        self._seq += 1
        now = monotonic()
        due = {codec for codec in self._asked if now - self._keyed_at.get(codec, 0.0) >= _KEYFRAME_S}
        self._asked -= due
        self._keys |= due
        luma = picture(level_of(samples), self._ticks)
        started = monotonic()
        videos = [encoder.encode(luma, keyframe=codec in self._keys) for codec, encoder in self._encoders.items()]
        for video in videos:
            if video.keyframe:
                self._keyed_at[video.codec] = started
        self._keys.clear()
        timing = pb.Timing(encode_us=round((monotonic() - started) * 1e6), skipped=self._skipped)
        if speaking and self._heard_at:
            timing.needed_us, self._heard_at = round((monotonic() - self._heard_at) * 1e6), 0.0
        self._skipped = 0
        marks, self._marks = self._marks, []
        return pb.Unit(
            epoch=epoch,
            seq=self._seq,
            pts=(self._ticks - 1) * 90_000 // FPS,
            audio=self._voice.encode(samples),
            video=videos,
            marks=marks,
            speaking=speaking,
            timing=timing,
        )

    def _next(self) -> tuple[Samples, bool, int]:
        """Return the sound of this tick, whether somebody speaks, and the epoch."""
        while self._speeches:
            speech = self._speeches[0]
            if speech.ticks:
                samples = hum(speech.at, speech.ticks)
                last = speech.at + 1 == speech.ticks
            elif speech.sound:
                samples = speech.sound.popleft()
                last = speech.ended and not speech.sound
            elif speech.ended:
                self._finish(speech, interrupted=False)
                continue
            else:
                break  # a microphone that is silent
            if not speech.started:
                speech.started = True
                self._mark(pb.Mark.STARTED, speech)
            speech.at += 1
            if last:
                self._finish(speech, interrupted=False)
            return samples, True, speech.epoch
        return _SILENCE, False, self._epoch

    def _sound(self, sound: pb.Sound) -> None:
        if not sound.sample_rate or sound.channels not in (1, 2):
            self._refuse("invalid_request", "`sample_rate` and `channels` are needed.", sound.speech)
            return
        if sound.epoch < self._epoch:
            return
        speech = next((one for one in self._speeches if one.number == sound.speech), None)
        if speech is None:
            speech = _Speech(sound.epoch, sound.speech)
            self._speeches.append(speech)
        samples = mono(sound.pcm, sound.sample_rate, sound.channels)
        for at in range(0, len(samples), TICK):
            piece = samples[at : at + TICK]
            # A tick that is not full ends in silence: nobody listens here but a test.
            speech.sound.append(np.concatenate([piece, _SILENCE[len(piece) :]]))
        speech.ended = sound.end

    def _interrupt(self, epoch: int) -> None:
        if self._script.deaf:
            return
        self._epoch = max(self._epoch, epoch)
        for speech in [one for one in self._speeches if one.epoch < self._epoch]:
            self._finish(speech, interrupted=True)

    def _finish(self, speech: _Speech, *, interrupted: bool) -> None:
        self._speeches.remove(speech)
        self._mark(pb.Mark.FINISHED, speech, interrupted=interrupted)

    def _mark(self, kind: pb.Mark.Kind.ValueType, speech: _Speech, *, interrupted: bool = False) -> None:
        self._marks.append(
            pb.Mark(
                kind=kind,
                speech=speech.number,
                position_ms=speech.at * 1000 // FPS,
                interrupted=interrupted,
                epoch=speech.epoch,
            )
        )

    def _refuse(self, code: str, message: str, speech: int) -> None:
        self._send(pb.SessionReply(failed=pb.Failed(code=code, message=message, speech=speech)))
