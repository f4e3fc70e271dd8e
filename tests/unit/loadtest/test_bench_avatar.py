"""`headrace bench avatar`: how figures of several models and of the link are put together."""

from __future__ import annotations

import pytest

from loadtest.avatar.files import Hop
from loadtest.avatar.inference import Encoded
from loadtest.avatar.link import links
from loadtest.avatar.several import Measured, turns


def test_models_in_turns_are_compared_within_their_round():
    alone = [Measured(10.0, 100.0, 0.0), Measured(20.0, 50.0, 0.0)]
    two = [Measured(9.0, 110.0, 0.0), Measured(19.0, 52.0, 0.0)]
    crowded = [Measured(2.5, 150.0, 1.0), Measured(5.0, 70.0, 0.5)]
    first, second, last = turns({(1, 4): alone, (2, 4): two, (4, 3): crowded})
    assert (first.of_one_model.low, first.of_one_model.high, first.added_run_ms.median) == (1.0, 1.0, 0.0)
    assert first.frames_per_s_in_all.median == 15.0
    assert first.of_claim == pytest.approx(0.1)
    assert first.speaking_faces_per_worker_extrapolated == pytest.approx(0.6)
    assert (second.of_one_model.low, second.of_one_model.high) == (0.9, 0.95)
    assert (second.added_run_ms.low, second.added_run_ms.high) == (2.0, 10.0)
    assert (last.models, last.room_for, last.of_one_model.median, last.loads_per_frame) == (4, 3, 0.25, 0.75)


def test_a_link_is_reckoned_as_the_blueprint_does_and_beside_its_figure():
    raw = Hop(
        requests=1, raw=True, round_trip_ms=5.0, of_which_server_ms=2.0, hop_ms=3.0, hop_of_claim=1.5,
        request_bytes=2_490_368, answer_bytes=1_228_800, hop_over_10_gbps_ms_extrapolated=6.0,
    )  # fmt: skip
    ours = Encoded(encoding="UINT8", answer_bytes=307_200, request_bytes=32_768, answer_of_claim=0.25)
    theirs, bytes_ = links(raw, [ours])
    # The same as of `headrace plan capacity`.
    assert (theirs.encoding, theirs.raw, theirs.users, theirs.frames_per_s_per_user) == ("FLOAT32", True, 710, 6.75)
    assert theirs.to_compositor_gbps_extrapolated == pytest.approx(47.1, abs=0.05)
    assert theirs.to_inference_gbps_extrapolated == pytest.approx(95.5, abs=0.05)
    assert theirs.to_compositor_of_claim == pytest.approx(47.1 / 45.6, abs=0.002)
    assert theirs.both_of_claim == pytest.approx(142.6 / 45.6, abs=0.002)
    assert bytes_.to_compositor_gbps_extrapolated == pytest.approx(11.8, abs=0.05)
    assert bytes_.to_inference_gbps_extrapolated == pytest.approx(1.26, abs=0.005)
    assert bytes_.both_of_claim < 0.3
