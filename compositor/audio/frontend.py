"""Everything that one utterance's samples go through before the encoder model, without any I/O."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from compositor.audio.mel import LogMel
from compositor.audio.opus import BITRATE_BPS, OpusEncoder
from compositor.audio.resample import FEATURE_RATE, SOUND_RATE, Resampled, Resampler
from compositor.audio.vad import BLOCK, VoiceActivity
from compositor.audio.windows import MelWindows
from compositor.contracts import TICK_MS, OpusPacket

__all__ = ["Frontend", "Heard", "TickSound"]

_FEATURE_TICK: Final = FEATURE_RATE * TICK_MS // 1000
_SOUND_TICK: Final = SOUND_RATE * TICK_MS // 1000
_BLOCKS: Final = _FEATURE_TICK // BLOCK

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class TickSound:
    """A tick as it is heard.

    Args:
        packets: of Opus.
        level: root mean square, 0..1 of full scale.
        voiced: whether someone speaks in it.
    """

    packets: tuple[OpusPacket, ...]
    level: float
    voiced: bool


@dataclass(frozen=True, slots=True)
class Heard:
    """What has become ready.

    Args:
        mels: windows for the encoder, [windows, 1, 80, 16].
        sounds: ticks; the features of each follow later.
    """

    mels: Floats
    sounds: tuple[TickSound, ...]


class Frontend:
    """One stream of samples: signed 16 bit little endian, interleaved.

    What the encoder gets to hear is silence wherever nobody speaks, so that a face at rest is still, whatever hums.

    Args:
        sample_rate: in Hz.
        channels: 1 or 2.
        bitrate_bps: of Opus.

    Raises:
        HeadraceError: a rate or a number of channels that cannot be taken.
    """

    def __init__(self, sample_rate: int, channels: int, *, bitrate_bps: int = BITRATE_BPS) -> None:
        self._resampler = Resampler(sample_rate, channels)
        self._voice = VoiceActivity()
        self._mel = LogMel()
        self._windows = MelWindows()
        self._opus = OpusEncoder(bitrate_bps)
        self._features: Floats = np.empty(0, np.float32)
        self._sound: NDArray[np.int16] = np.empty(0, np.int16)
        #: Whether someone spoke in each whole block that is no tick yet.
        self._spoken: list[bool] = []
        #: Power of each such block, summed.
        self._power: list[float] = []
        self._open = False
        #: Ticks in all so far.
        self.ticks = 0

    def feed(self, pcm: bytes) -> Heard:
        """Take whole samples of all channels."""
        return self._heard(self._resampler.feed(pcm))

    def finish(self) -> Heard:
        """Take the end: the last tick is filled up with silence."""
        last = self._resampler.finish()
        rest = self._heard(last)
        # What is no whole tick yet, in samples for features; the sound is as long.
        waiting = len(self._features) + BLOCK * len(self._spoken)
        if waiting:
            missing = _FEATURE_TICK - waiting
            sound = _SOUND_TICK - len(self._sound)
            filled = self._heard(Resampled(np.zeros(missing, np.float32), np.zeros(sound, np.int16)))
            rest = Heard(np.concatenate([rest.mels, filled.mels]), rest.sounds + filled.sounds)
        if not self.ticks:
            return rest
        ends = (self._windows.feed(self._mel.finish()), self._windows.finish())
        return Heard(np.concatenate([rest.mels, *ends]), rest.sounds)

    def _heard(self, piece: Resampled) -> Heard:
        self._features = np.concatenate([self._features, piece.features])
        self._sound = np.concatenate([self._sound, piece.sound])
        gated: list[Floats] = []
        at = 0
        for at in range(BLOCK, len(self._features) + 1, BLOCK):
            block = self._features[at - BLOCK : at]
            gated.append(self._gated(block))
            self._power.append(float(np.sum(np.square(block, dtype=np.float64))))
        self._features = self._features[at:]
        mels = self._windows.feed(self._mel.feed(np.concatenate([np.empty(0, np.float32), *gated])))
        sounds: list[TickSound] = []
        while len(self._spoken) >= _BLOCKS and len(self._sound) >= _SOUND_TICK:
            sounds.append(self._tick())
        self.ticks += len(sounds)
        return Heard(mels, tuple(sounds))

    def _gated(self, block: Floats) -> Floats:
        """Return what the encoder hears of a block; at an edge it fades over the block."""
        spoken = self._voice.judge(block)
        was, self._open = self._open, spoken
        self._spoken.append(spoken)
        if spoken == was:
            return block if spoken else np.zeros(BLOCK, np.float32)
        # An opening block is kept whole: a consonant may be all there is of a beginning.
        return block if spoken else block * np.linspace(1.0, 0.0, BLOCK, dtype=np.float32)

    def _tick(self) -> TickSound:
        packets = self._opus.encode(self._sound[:_SOUND_TICK])
        level = min(1.0, (sum(self._power[:_BLOCKS]) / _FEATURE_TICK) ** 0.5)
        voiced = any(self._spoken[:_BLOCKS])
        self._sound = self._sound[_SOUND_TICK:]
        del self._power[:_BLOCKS], self._spoken[:_BLOCKS]
        return TickSound(packets, level, voiced)
