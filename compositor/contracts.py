"""What the halves of the compositor pass each other: sound made ready for a face, in ticks.

`compositor/audio` and `compositor/speech` make `SpeechTick`s; `compositor/session` consumes them on its own clock.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

__all__ = ["FEATURE_SHAPE", "PACKET_SAMPLES", "TICK_MS", "OpusPacket", "Sound", "Speech", "SpeechTick", "Voices"]

#: One tick, and one window of features, lasts so long: 25 a second.
TICK_MS: Final = 40
#: Length of one Opus packet in samples at 48 kHz: 20 ms, so a tick has two.
PACKET_SAMPLES: Final = 960
#: Features of one tick: 16 frames of 512 numbers (SyncTalk_2D's `ave` mode).
FEATURE_SHAPE: Final = (32, 16, 16)


@dataclass(frozen=True, slots=True)
class OpusPacket:
    """One encoded packet.

    Args:
        data: as RFC 6716 has it, 48 kHz mono.
        samples: its length at 48 kHz; `PACKET_SAMPLES`.
    """

    data: bytes
    samples: int = PACKET_SAMPLES


@dataclass(frozen=True, slots=True)
class SpeechTick:
    """`TICK_MS` of speech.

    Args:
        features: float32, `FEATURE_SHAPE`.
        packets: the same time as sound.
        level: root mean square of the samples, 0..1 of full scale.
        voiced: whether someone speaks in it.
        needed_at: `monotonic` seconds at which the last sample that `features` needs had arrived.
    """

    features: NDArray[np.float32]
    packets: tuple[OpusPacket, ...]
    level: float
    voiced: bool
    needed_at: float


class Speech(Protocol):
    """One utterance on its way to a face."""

    def ticks(self) -> AsyncIterator[SpeechTick]:
        """Give the ticks in order, as soon as each can be had; the end of the iteration is the end of the speech.

        Bounded: no more than a second is made ahead of the reader.

        Raises:
            streamkit.wire.errors.HeadraceError: the voice or the encoder failed; what came before stands.
        """
        ...

    async def aclose(self) -> None:
        """Stop at once and let go of everything; harmless when repeated."""
        ...


class Sound(Speech, Protocol):
    """An utterance whose samples come from outside: a microphone, a posted file."""

    def push(self, pcm: bytes) -> None:
        """Take samples: signed 16 bit little endian, interleaved, at the rate that was named at the start.

        Raises:
            streamkit.wire.errors.HeadraceError: more than the bound (10 s) waits, or half a sample was given.
        """
        ...

    def end(self) -> None:
        """Nothing more follows."""
        ...


class Voices(Protocol):
    """Whoever can speak. `compositor.speech.voices.SpeechVoices` is it, between its `start` and its `aclose`."""

    def names(self) -> tuple[str, ...]:
        """Name the voices that can be asked for."""
        ...

    def usual(self) -> str:
        """Name the voice of who names none; empty = there is none."""
        ...

    def say(self, text: str, voice: str) -> Speech:
        """Begin to speak `text`; `voice` may be empty: the default one.

        Raises:
            streamkit.wire.errors.HeadraceError: no such voice, or none at all.
        """
        ...

    def hear(self, sample_rate: int, channels: int) -> Sound:
        """Begin to listen.

        Raises:
            streamkit.wire.errors.HeadraceError: a rate or a number of channels that cannot be taken.
        """
        ...
