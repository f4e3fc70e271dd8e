"""Windows of mels and of features, in the middle and at both edges, against the ave path's own arithmetic."""

from __future__ import annotations

import numpy as np
import pytest

from compositor.audio.mel import MELS, SILENCE
from compositor.audio.windows import FEATURES, LOOK_AHEAD, FeatureWindows, MelWindows, features_of
from compositor.contracts import FEATURE_SHAPE


def mels(count: int) -> np.ndarray:
    return np.random.default_rng(count).standard_normal((count, MELS)).astype(np.float32)


def published(frames: np.ndarray) -> list[np.ndarray]:
    """What the published data set cuts: 80 mels and 25 windows a second, the last moved to end with the sound."""
    found = []
    for number in range(int((len(frames) - 16) / 80.0 * 25.0) + 2):
        first = int(80.0 * (number / 25.0))
        first = min(first, len(frames) - 16)
        found.append(frames[first : first + 16].T)
    return found


@pytest.mark.parametrize("count", [16, 17, 19, 20, 52, 80, 81, 321, 1000])
@pytest.mark.parametrize("step", [1, 3, 10_000])
def test_mel_windows_are_the_published_ones(count, step):
    frames = mels(count)
    windows = MelWindows()
    parts = [windows.feed(frames[at : at + step]) for at in range(0, count, step)]
    found = np.concatenate([*parts, windows.finish()])
    wanted = published(frames)
    assert found.shape == (len(wanted), 1, MELS, 16)
    assert len(wanted) == features_of(count)
    assert (found[:, 0] == np.stack(wanted)).all()


def test_sound_that_is_shorter_than_a_window_is_followed_by_silence():
    windows = MelWindows()
    frames = mels(5)
    found = np.concatenate([windows.feed(frames), windows.finish()])
    assert len(found) == 2
    assert (found[0, 0, :, :5] == frames.T).all()
    assert (found[0, 0, :, 5:] == SILENCE).all()


def rows_of(count: int) -> np.ndarray:
    """Features whose numbers are their own place."""
    return np.repeat(np.arange(count, dtype=np.float32)[:, None], FEATURES, axis=1)


@pytest.mark.parametrize(("count", "ticks"), [(2, 1), (2, 4), (5, 8), (20, 22), (98, 100)])
@pytest.mark.parametrize("step", [1, 4, 1000])
def test_feature_windows_reach_from_eight_before_to_seven_after_and_repeat_the_edges(count, ticks, step):
    windows = FeatureWindows()
    features = rows_of(count)
    found = [one for at in range(0, count, step) for one in windows.feed(features[at : at + step])]
    early = len(found)
    found += windows.finish(ticks)
    # The first and the last feature stand there once more, as the published inference has it.
    rows = [0, *range(count), count - 1]
    assert len(found) == ticks
    for tick, window in enumerate(found):
        assert window.shape == FEATURE_SHAPE
        wanted = [rows[min(max(at, 0), len(rows) - 1)] for at in range(tick - 8, tick + 8)]
        assert window.reshape(16, FEATURES)[:, 0].tolist() == wanted
    # A tick leaves with the feature that it waits for, not later.
    assert early == max(0, count - LOOK_AHEAD)


def test_what_no_window_needs_any_more_is_let_go():
    windows, features = MelWindows(), FeatureWindows()
    for _ in range(100):
        windows.feed(mels(80))
        features.feed(rows_of(25))
    assert len(windows._mels) <= 32
    assert len(features._rows) <= 32
