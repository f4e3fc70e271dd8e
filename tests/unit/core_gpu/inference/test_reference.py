"""The models that the project makes: what they cost, and that the mouth follows the sound."""

from __future__ import annotations

import hashlib

import numpy as np
import onnx
import pytest

from core_gpu.gpu_session import cpu_session
from core_gpu.inference.reference.cache import ReferenceModelError, reference
from core_gpu.inference.reference.graph import (
    AUDIO_SHAPE,
    FEATURES,
    MEL_SHAPE,
    OUTPUT_SHAPE,
    VISUAL_SHAPE,
    cost,
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("models")


def test_the_benchmark_model_has_the_published_size_and_cost(folder):
    found = cost(onnx.load(reference("unet", folder)))
    assert found.parameters == pytest.approx(12.19e6, rel=0.02)
    assert found.macs == pytest.approx(4.89e9, rel=0.02)


def test_the_benchmark_model_has_the_published_interface(folder):
    session = cpu_session(reference("unet", folder))
    assert [(one.name, one.shape[1:]) for one in session.get_inputs()] == [
        ("input", list(VISUAL_SHAPE)), ("audio", list(AUDIO_SHAPE)),
    ]  # fmt: skip
    rng = np.random.default_rng(1)
    given = {
        "input": rng.random((2, *VISUAL_SHAPE), dtype=np.float32),
        "audio": rng.standard_normal((2, *AUDIO_SHAPE), dtype=np.float32),
    }
    (out,) = session.run(None, given)
    assert out.shape == (2, *OUTPUT_SHAPE)
    assert 0 <= out.min() < out.max() <= 1
    assert np.abs(out[0] - out[1]).max() > 0.01


def windows(features: np.ndarray) -> np.ndarray:
    """Cut 16 frames around each frame, edges repeated, as the published model takes them."""
    padded = np.concatenate([features[:1].repeat(8, 0), features, features[-1:].repeat(8, 0)])
    return np.stack([padded[at : at + 16].reshape(AUDIO_SHAPE) for at in range(len(features))])


def test_the_mouth_follows_the_sound_and_is_still_in_silence(folder):
    session = cpu_session(reference("mouth", folder))
    rng = np.random.default_rng(7)
    face = rng.random(VISUAL_SHAPE, dtype=np.float32) * 0.3 + 0.5
    # Two seconds of syllables at 4 Hz between half a second of silence on either side; 25 frames a second.
    time_s = np.arange(75) / 25
    rms = np.where((time_s >= 0.5) & (time_s < 2.5), 0.45 * (1 - np.cos(2 * np.pi * 4 * (time_s - 0.5))), 0.0)
    features = (rng.standard_normal((75, 512)) * rms[:, None]).astype(np.float32)
    changes = []
    for window in windows(features):
        (out,) = session.run(None, {"input": face[None], "audio": window[None]})
        changes.append(float(np.abs(out[0] - face[:3]).mean()))
    changes = np.array(changes)
    assert np.corrcoef(rms, changes)[0, 1] >= 0.8
    silent = [at for at in range(75) if not features[max(0, at - 1) : at + 2].any()]
    assert len(silent) > 15
    assert (changes[silent] == 0).all()
    assert changes.max() > 0.005


def test_the_mouth_stays_between_its_corners(folder):
    session = cpu_session(reference("mouth", folder))
    face = np.full((1, *VISUAL_SHAPE), 0.6, np.float32)
    (out,) = session.run(None, {"input": face, "audio": np.ones((1, *AUDIO_SHAPE), np.float32)})
    changed = (out[0] != face[0, :3]).any(axis=0)
    assert changed[218].sum() > 80
    columns = np.flatnonzero(changed.any(axis=0))
    assert (columns.min(), columns.max()) >= (160 - 44, 0)
    assert columns.max() <= 160 + 44


def drawn(session, rms: float) -> np.ndarray:
    """Return the mouth's middle column, from above to below, of a face that is one colour."""
    face = np.full((1, *VISUAL_SHAPE), 0.75, np.float32)
    audio = np.full((1, *AUDIO_SHAPE), rms, np.float32)
    (out,) = session.run(None, {"input": face, "audio": audio})
    return out[0, :, :, 160].T


def test_lips_lie_around_the_mouth_and_teeth_are_seen_where_it_is_wide_open(folder):
    session = cpu_session(reference("mouth", folder))
    heights = []
    for rms in (0.1, 0.4, 0.9):
        column = drawn(session, rms)
        dark = np.flatnonzero(column.max(axis=1) < 0.3)
        heights.append(len(dark))
        redder = np.flatnonzero((column[:, 0] > 0.6) & (column[:, 1] < 0.5))
        assert redder.min() < dark.min()
        assert redder.max() > dark.max()
        teeth = (column.min(axis=1) > 0.8).any()
        assert teeth == (rms > 0.8)
    assert heights == sorted(set(heights))


def test_the_encoder_s_features_are_as_large_as_the_sound_is_loud(folder):
    session = cpu_session(reference("ave", folder))
    (mel,) = session.get_inputs()
    assert mel.shape[1:] == list(MEL_SHAPE)
    silence = np.full((1, *MEL_SHAPE), -4.0, np.float32)
    assert (session.run(None, {mel.name: silence})[0] == np.zeros((1, FEATURES))).all()
    # 20 dB more are 1.6 of a log-mel more, and ten times the amplitude.
    quiet, loud = np.full((1, *MEL_SHAPE), 0.0, np.float32), np.full((1, *MEL_SHAPE), 1.6, np.float32)
    found = [np.sqrt(np.square(session.run(None, {mel.name: one})[0]).mean()) for one in (quiet, loud)]
    assert found[1] / found[0] == pytest.approx(10, rel=0.01)


def test_a_model_is_made_once_and_is_the_same_everywhere(folder, tmp_path):
    first, again = reference("mouth", folder), reference("mouth", tmp_path)
    assert hashlib.sha256(first.read_bytes()).digest() == hashlib.sha256(again.read_bytes()).digest()
    made = first.stat().st_mtime_ns
    assert reference("mouth", folder).stat().st_mtime_ns == made
    assert [file.name for file in tmp_path.iterdir()] == [again.name]


def test_an_unknown_reference_model_names_those_that_there_are():
    with pytest.raises(ReferenceModelError, match="no reference model nose; there is mouth, unet, ave"):
        reference("nose")
