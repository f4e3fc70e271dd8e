"""Samples of any rate become mono at two rates: as many as last as long, and without a seam."""

from __future__ import annotations

import numpy as np
import pytest

from compositor.audio.resample import FEATURE_RATE, SOUND_RATE, Resampler, check_format, samples_at
from streamkit.wire.errors import Code, HeadraceError
from tests.support.sound import pcm, speech


def resampled(data: bytes, rate: int, channels: int, step: int | None = None):
    step = step or max(1, len(data))
    resampler = Resampler(rate, channels)
    parts = [resampler.feed(data[at : at + step]) for at in range(0, len(data), step)]
    parts.append(resampler.finish())
    return np.concatenate([one.features for one in parts]), np.concatenate([one.sound for one in parts])


@pytest.mark.parametrize("rate", [8_000, 11_025, 16_000, 22_050, 24_000, 44_100, 48_000])
@pytest.mark.parametrize("channels", [1, 2])
def test_no_sample_is_lost_or_made_up(rate, channels):
    data = pcm(speech(0.333, rate), channels)
    samples = len(data) // 2 // channels
    features, sound = resampled(data, rate, channels)
    assert len(features) == samples_at(FEATURE_RATE, samples, rate)
    assert len(sound) == samples_at(SOUND_RATE, samples, rate)


@pytest.mark.parametrize("rate", [8_000, 22_050, 44_100, 48_000])
def test_a_tone_keeps_its_pitch_its_loudness_and_its_place(rate):
    at = np.arange(rate) / rate
    features, sound = resampled(pcm((0.5 * np.sin(2 * np.pi * 440 * at)).astype(np.float32)), rate, 1)
    for found, out in ((features, FEATURE_RATE), (sound / 32_768, SOUND_RATE)):
        wanted = 0.5 * np.sin(2 * np.pi * 440 * np.arange(len(found)) / out)
        # Not the ends, where a filter has nothing to look at.
        assert np.abs(found - wanted)[out // 100 : -out // 100].max() < 0.01


def test_there_is_no_click_where_pieces_meet():
    rate = 22_050
    at = np.arange(rate) / rate
    data = pcm((0.5 * np.sin(2 * np.pi * 300 * at)).astype(np.float32))
    _, whole = resampled(data, rate, 1)
    _, pieces = resampled(data, rate, 1, step=2 * 331)
    assert (whole == pieces).all()
    # A sine's second difference is small everywhere; a click's is not.
    bend = np.abs(np.diff(pieces.astype(np.float64) / 32_768, n=2))[480:-480]
    assert bend.max() < 0.5 * (2 * np.pi * 300 / SOUND_RATE) ** 2 * 1.2


def test_two_channels_are_mixed():
    left, right = speech(0.2), np.zeros(3200, np.float32)
    both = np.stack([left, right], axis=1).reshape(-1)
    features, _ = resampled(pcm(both), 16_000, 2)
    assert np.abs(features - left / 2).max() < 1e-3


def test_nothing_in_is_nothing_out():
    features, sound = resampled(b"", 24_000, 1)
    assert (len(features), len(sound)) == (0, 0)


@pytest.mark.parametrize(
    ("rate", "channels", "told"),
    [
        (7_999, 1, "sample_rate: expected 8000 to 48000 Hz, got 7999"),
        (48_001, 1, "sample_rate: expected 8000 to 48000 Hz, got 48001"),
        (16_000, 0, "channels: expected 1 or 2, got 0"),
        (16_000, 3, "channels: expected 1 or 2, got 3"),
    ],
)
def test_what_cannot_be_taken_is_named(rate, channels, told):
    with pytest.raises(HeadraceError) as caught:
        check_format(rate, channels)
    assert (caught.value.code, caught.value.message) == (Code.INVALID_REQUEST, told)
