"""Who speaks: thresholds, hysteresis, hangover, and a background that hums."""

from __future__ import annotations

import numpy as np

from compositor.audio.vad import BLOCK, HANGOVER_BLOCKS, VoiceActivity, decibels
from tests.support.sound import speech

NOISE = np.random.default_rng(2).standard_normal(BLOCK * 3000).astype(np.float32)


def judged(samples: np.ndarray) -> list[bool]:
    voice = VoiceActivity()
    return [voice.judge(samples[at : at + BLOCK]) for at in range(0, len(samples) - BLOCK + 1, BLOCK)]


def level(db: float, blocks: int = 1) -> np.ndarray:
    return NOISE[: BLOCK * blocks] * np.float32(10 ** (db / 20))


def test_silence_and_faint_noise_are_nobody():
    assert not any(judged(np.zeros(BLOCK * 200, np.float32)))
    assert not any(judged(level(-60, 500)))


def test_speech_is_somebody_from_its_beginning_and_a_hangover_beyond_its_end():
    found = judged(np.concatenate([level(-75, 50), level(-20, 30), level(-75, 50)]))
    assert not any(found[:50])
    assert all(found[50:80])
    assert found[80:].count(True) == HANGOVER_BLOCKS - 1
    assert all(found[80 : 80 + HANGOVER_BLOCKS - 1])


def test_between_the_thresholds_nobody_begins_and_nobody_stops():
    voice = VoiceActivity()
    between = level(-48)
    assert not voice.judge(between)
    assert voice.judge(level(-20))
    assert all(voice.judge(between) for _ in range(3 * HANGOVER_BLOCKS))


def test_pauses_between_syllables_do_not_cut_a_sentence():
    found = judged(speech(2.0))
    begun = found.index(True)
    assert begun < 8
    assert all(found[begun : len(found) - 8])


def test_a_steady_hum_is_learned_and_a_voice_above_it_is_heard():
    hum = level(-48, 2500)
    found = judged(np.concatenate([hum, level(-20, 20), hum[: BLOCK * 100]]))
    assert not any(found[:2500])
    assert all(found[2500:2520])
    assert not any(found[2520 + HANGOVER_BLOCKS :])


def test_decibels_are_of_full_scale():
    assert decibels(np.ones(BLOCK, np.float32)) == 0.0
    assert decibels(np.zeros(BLOCK, np.float32)) == -120.0
    assert abs(decibels(np.full(BLOCK, 0.1, np.float32)) + 20.0) < 1e-3
