"""Opus, encoded once for all who listen: 48 kHz mono, 20 ms a packet, libopus' mode for speech (RFC 6716 §2)."""

from __future__ import annotations

from fractions import Fraction
from typing import Final

import av
import numpy as np
from numpy.typing import NDArray

from compositor.contracts import PACKET_SAMPLES, OpusPacket

__all__ = ["BITRATE_BPS", "OpusEncoder"]

BITRATE_BPS: Final = 32_000
_RATE: Final = 48_000


class OpusEncoder:
    """One utterance's encoder.

    Args:
        bitrate_bps: aimed at on average.
    """

    def __init__(self, bitrate_bps: int = BITRATE_BPS) -> None:
        codec = av.CodecContext.create("libopus", "w")
        codec.sample_rate = _RATE
        codec.layout = "mono"
        codec.format = "s16"
        codec.bit_rate = bitrate_bps
        codec.time_base = Fraction(1, _RATE)
        codec.options = {"application": "voip", "frame_duration": "20", "vbr": "on"}
        self._codec = codec
        self._pts = 0

    def encode(self, samples: NDArray[np.int16]) -> tuple[OpusPacket, ...]:
        """Return the packets of `samples`, a multiple of `PACKET_SAMPLES` long.

        The encoder's own look-ahead (6.5 ms) is not flushed: the packets last as long as the samples.

        Raises:
            ValueError: it is no multiple.
        """
        if len(samples) % PACKET_SAMPLES:
            raise ValueError(f"a packet has {PACKET_SAMPLES} samples, {len(samples)} make no whole ones")
        packets: list[OpusPacket] = []
        for at in range(0, len(samples), PACKET_SAMPLES):
            frame = av.AudioFrame.from_ndarray(samples[None, at : at + PACKET_SAMPLES], format="s16", layout="mono")
            frame.sample_rate = _RATE
            frame.time_base = Fraction(1, _RATE)
            frame.pts = self._pts
            self._pts += PACKET_SAMPLES
            packets += (OpusPacket(bytes(packet)) for packet in self._codec.encode(frame))
        return tuple(packets)
