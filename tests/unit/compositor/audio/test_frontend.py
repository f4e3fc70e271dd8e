"""One utterance's way to the encoder: whole ticks, what is heard, and what the encoder hears."""

from __future__ import annotations

import numpy as np
import pytest

from compositor.audio.frontend import Frontend
from compositor.audio.mel import SILENCE
from compositor.audio.windows import features_of
from compositor.contracts import PACKET_SAMPLES
from tests.support.sound import pcm, rms_of, speech


def heard(data: bytes, rate: int = 16_000, channels: int = 1, step: int | None = None):
    frontend = Frontend(rate, channels)
    step = step or max(1, len(data))
    parts = [frontend.feed(data[at : at + step]) for at in range(0, len(data), step)]
    parts.append(frontend.finish())
    return np.concatenate([one.mels for one in parts]), [sound for one in parts for sound in one.sounds]


@pytest.mark.parametrize("seconds", [0.001, 0.04, 0.041, 0.5, 1.234])
@pytest.mark.parametrize("rate", [8_000, 22_050, 48_000])
def test_ticks_are_the_sound_s_length_rounded_up_and_hold_forty_milliseconds_each(seconds, rate):
    samples = max(1, int(seconds * rate))
    mels, sounds = heard(pcm(speech(2, rate)[:samples]), rate)
    assert len(sounds) == -(-samples * 25 // rate)
    assert all(sum(packet.samples for packet in sound.packets) == 2 * PACKET_SAMPLES for sound in sounds)
    assert len(mels) == features_of(max(16, 1 + 640 * len(sounds) // 200))


def test_levels_are_the_samples_own_and_silence_has_none():
    sound = speech(1.0, silence_s=0.4)
    _, sounds = heard(pcm(sound))
    wanted = rms_of(sound, len(sounds))
    assert np.abs(np.array([one.level for one in sounds]) - wanted).max() < 1e-3
    silent = [one for one in sounds if one.level == 0.0]
    assert len(silent) >= 20
    assert not any(one.voiced for one in sounds[:10])
    assert all(one.voiced for one in sounds[12:34])
    assert not any(one.voiced for one in sounds[-4:])


def test_the_encoder_hears_silence_where_nobody_speaks_and_the_viewer_hears_all():
    hum = (0.001 * np.random.default_rng(1).standard_normal(16_000)).astype(np.float32)
    mels, sounds = heard(pcm(hum))
    assert (mels == SILENCE).all()
    assert min(one.level for one in sounds) > 0
    assert not any(one.voiced for one in sounds)


def test_no_samples_make_nothing():
    mels, sounds = heard(b"")
    assert (len(mels), sounds) == (0, [])
