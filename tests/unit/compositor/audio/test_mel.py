"""Log-mels against a slow and plain reckoning of the same definition, and against values that librosa 0.11 gave."""

from __future__ import annotations

import math

import numpy as np

from compositor.audio.mel import HOP, MELS, SILENCE, LogMel, mel_filters
from tests.support.sound import speech


def plainly(samples: np.ndarray) -> np.ndarray:
    """The definition, a number at a time where that is bearable."""
    emphasised = samples.astype(np.float64).copy()
    emphasised[1:] -= 0.97 * samples[:-1].astype(np.float64)
    padded = np.concatenate([np.zeros(400), emphasised, np.zeros(400)])
    turn = np.exp(-2j * np.pi * np.outer(np.arange(401), np.arange(800)) / 800)
    hann = np.array([0.5 - 0.5 * math.cos(2 * math.pi * n / 800) for n in range(800)])
    edges = [hertz(mel(55) + n * (mel(7_600) - mel(55)) / 81) for n in range(82)]
    filters = np.zeros((80, 401))
    for band in range(80):
        low, middle, high = edges[band : band + 3]
        for at in range(401):
            f = at * 20.0
            rise, fall = (f - low) / (middle - low), (high - f) / (high - middle)
            filters[band, at] = max(0.0, min(rise, fall)) * 2 / (high - low)
    frames = []
    for start in range(0, len(padded) - 799, 200):
        magnitudes = np.abs(turn @ (padded[start : start + 800] * hann))
        levels = [20 * math.log10(max(1e-5, x)) - 20 for x in filters @ magnitudes]
        frames.append([min(4.0, max(-4.0, 8 * (level + 100) / 100 - 4)) for level in levels])
    return np.array(frames)


def mel(f: float) -> float:
    return f * 3 / 200 if f < 1000 else 15 + 27 * math.log(f / 1000) / math.log(6.4)


def hertz(m: float) -> float:
    return m * 200 / 3 if m < 15 else 1000 * 6.4 ** ((m - 15) / 27)


def logmel(samples: np.ndarray, step: int | None = None) -> np.ndarray:
    stream = LogMel()
    step = step or max(1, len(samples))
    parts = [stream.feed(samples[at : at + step]) for at in range(0, len(samples), step)]
    return np.concatenate([*parts, stream.finish()])


def test_they_are_what_the_definition_says():
    samples = speech(0.4, silence_s=0.05)
    found, wanted = logmel(samples), plainly(samples)
    assert found.shape == wanted.shape == (1 + len(samples) // HOP, MELS)
    assert np.abs(found - wanted).max() < 1e-4
    assert found.max() > -1
    assert found.min() == SILENCE


#: Every fifth frame of every sixteenth mel, as librosa 0.11.0 and scipy make them of the chirp below by the published
#: encoder's own steps (stft of 800 and 200, mel filters, 20 dB, 4).
LIBROSA = [
    [-4.0, -4.0, -4.0, -4.0, -4.0, -4.0, -4.0, -4.0, -1.0325],
    [-4.0, -4.0, -4.0, -2.1285, 1.3401, -2.1587, -4.0, -4.0, -0.4561],
    [-4.0, -4.0, -4.0, -4.0, -4.0, -4.0, -4.0, -3.9756, 0.2855],
    [-4.0, -4.0, -4.0, -4.0, -4.0, -4.0, -4.0, -4.0, -0.9204],
    [-4.0, -4.0, -4.0, -4.0, -4.0, -4.0, -4.0, -4.0, -1.4224],
]


def test_they_are_what_librosa_makes_of_the_same_sound():
    at = np.arange(8000) / 16_000
    chirp = 0.3 * np.sin(2 * np.pi * (200 * at + 900 * at**2)) * (0.5 - 0.5 * np.cos(2 * np.pi * 3 * at))
    found = logmel((np.round(chirp.astype(np.float32) * 32_767) / 32_768).astype(np.float32))
    assert np.abs(found.T[::16, ::5] - LIBROSA).max() < 2e-4


def test_pieces_make_the_same_frames():
    samples = speech(0.5)
    whole = logmel(samples)
    for step in (1, 7, 160, 777):
        assert np.abs(logmel(samples, step) - whole).max() < 1e-5


def test_silence_is_the_floor_exactly():
    assert (logmel(np.zeros(3200, np.float32)) == SILENCE).all()


def test_each_filter_has_an_area_of_one_hertz():
    # Slaney's norm; the lowest are narrower than two bins, so their sum is coarse.
    assert np.allclose(mel_filters()[20:].sum(axis=1) * 20.0, 1.0, atol=0.15)
