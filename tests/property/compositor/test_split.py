"""However samples come in pieces, the same ticks come out."""

from __future__ import annotations

import itertools

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from compositor.audio.frontend import Frontend
from tests.support.sound import pcm, speech

SOUND = speech(0.9, 22_050, silence_s=0.12)


def heard(data: bytes, cuts: list[int], channels: int):
    frontend = Frontend(22_050, channels)
    frame = 2 * channels
    edges = [0, *sorted(cut * frame for cut in cuts), len(data)]
    parts = [frontend.feed(data[begin:end]) for begin, end in itertools.pairwise(edges)]
    parts.append(frontend.finish())
    return np.concatenate([one.mels for one in parts]), [sound for one in parts for sound in one.sounds]


@given(
    length=st.integers(0, len(SOUND)),
    cuts=st.lists(st.integers(0, len(SOUND)), max_size=40),
    channels=st.sampled_from([1, 2]),
)
@settings(max_examples=25, deadline=None)
def test_any_split_gives_the_same_ticks(length, cuts, channels):
    data = pcm(SOUND[:length], channels)
    mels, sounds = heard(data, [], channels)
    split_mels, split_sounds = heard(data, [min(cut, length) for cut in cuts], channels)
    # Bytes and verdicts are the same; sums of floats may be rounded in another order.
    assert [one.packets for one in split_sounds] == [one.packets for one in sounds]
    assert [one.voiced for one in split_sounds] == [one.voiced for one in sounds]
    assert [one.level for one in split_sounds] == [one.level for one in sounds]
    assert split_mels.shape == mels.shape
    assert np.abs(split_mels - mels).max(initial=0.0) < 1e-4
