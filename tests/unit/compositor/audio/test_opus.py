"""Opus packets: 20 ms each, the sound that went in, next to nothing for silence."""

from __future__ import annotations

import av
import numpy as np
import pytest

from compositor.audio.opus import OpusEncoder
from compositor.contracts import PACKET_SAMPLES
from compositor.session.posture import SILENCE
from tests.support.sound import rms_of, speech


def decoded(packets) -> np.ndarray:
    codec = av.CodecContext.create("opus", "r")
    codec.sample_rate, codec.layout = 48_000, "mono"
    frames = [frame for packet in packets for frame in codec.decode(av.Packet(packet.data))]
    return np.concatenate([frame.to_ndarray().reshape(frame.to_ndarray().shape[0], -1)[0] for frame in frames])


def test_a_second_is_fifty_packets_at_about_the_bitrate_and_sounds_the_same():
    sound = speech(1.0, 48_000)
    packets = OpusEncoder(32_000).encode((sound * 32_767).astype(np.int16))
    assert len(packets) == 50
    assert {packet.samples for packet in packets} == {PACKET_SAMPLES}
    assert 16_000 < 8 * sum(len(packet.data) for packet in packets) < 48_000
    heard = decoded(packets)
    assert len(heard) == 48_000
    # Voice mode filters what is deepest away, so loudness is compared, not waves; the encoder is 6.5 ms behind.
    wanted, found = (rms_of(one, 95, 48_000, ms=10) for one in (sound, heard[312:]))
    assert np.corrcoef(wanted, found)[0, 1] > 0.97
    assert 0.7 < found.mean() / wanted.mean() < 1.3


def test_packets_come_out_as_their_samples_go_in():
    encoder = OpusEncoder()
    for _ in range(5):
        assert len(encoder.encode(np.zeros(2 * PACKET_SAMPLES, np.int16))) == 2
    assert encoder.encode(np.zeros(0, np.int16)) == ()


def test_half_a_packet_is_refused():
    with pytest.raises(ValueError, match="make no whole ones"):
        OpusEncoder().encode(np.zeros(100, np.int16))


def test_the_packet_of_silence_is_silent():
    assert SILENCE.samples == PACKET_SAMPLES
    assert np.abs(decoded([SILENCE] * 10)).max() < 1e-4
    # It may follow speech: what was said fades within a packet, and nothing rings on.
    said = OpusEncoder().encode((speech(0.2, 48_000) * 32_767).astype(np.int16))
    assert np.abs(decoded([*said, *[SILENCE] * 5])[-4 * PACKET_SAMPLES :]).max() < 1e-3
