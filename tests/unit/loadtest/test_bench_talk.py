"""`headrace bench talk`: what it refuses, and how it tells one time from another."""

from __future__ import annotations

import argparse
from pathlib import Path
from types import SimpleNamespace

import pytest

from loadtest.reported import Place
from loadtest.talk import cli, rounds
from loadtest.talk.rounds import Round
from loadtest.talk.viewer import Media, ViewerError


def round_of(**other: float) -> Round:
    times = dict.fromkeys(Round.__struct_fields__, 0.0)
    return Round(**{**times, **other})


@pytest.mark.parametrize("count", ["0", "1001"])
def test_a_number_of_rounds_that_says_nothing_is_refused(count: str, tmp_path: Path):
    with pytest.raises(cli.UnfitError, match=f"--rounds is 1 to 1000, got {count}"):
        cli._measure(cli._parser().parse_args(["--rounds", count]), Place(tmp_path, 0, 1))


def test_figures_stand_beside_their_budgets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    async def talks(count: int, place: Place) -> list[Round]:
        return [round_of(first_picture_ms=time, stale_sound_ms=20.0) for time in (100.0, 900.0, 250.0)][:count]

    monkeypatch.setattr(cli, "_talks", talks)
    report = cli._measure(argparse.Namespace(rounds=3), Place(tmp_path, 0, 1))
    picture, token, *_, sound = report.figures
    assert (picture.ms.median, picture.ms.low, picture.ms.high, picture.ms.runs) == (250.0, 100.0, 900.0, 3)
    assert (picture.over_budget, picture.worst_over_budget) == (0.5, 1.8)
    assert (token.budget_ms, token.over_budget) == (None, None)
    assert (sound.over_budget, sound.budget_ms) == (0.1, 200.0)


def event(text: str | None) -> dict[str, object]:
    return {"type": "event", "data": {"choices": [{"delta": {} if text is None else {"content": text}}]}}


def heard(*messages: dict[str, object]) -> SimpleNamespace:
    times = list(enumerate(messages, 1))
    return SimpleNamespace(of=lambda kind: [(float(at), one) for at, one in times if one["type"] == kind])


def test_a_sentence_ends_with_its_last_token_and_is_certain_with_the_next():
    first = {"type": "speech", "text": "Once it rained."}
    viewer = heard(
        event(None), event("Once it"), event(" rained"), event(".\n"), event("Then"), first, event(" more")
    )
    assert rounds._sentence(viewer) == (4.0, 5.0)
    with pytest.raises(ViewerError, match="is spoken, and is not in the answer"):
        rounds._sentence(heard(event("It was"), event(" dry."), event("So"), first))


def test_a_frame_came_when_the_last_packet_of_its_stamp_did():
    media = Media(float)
    assert media.found() == []
    media._receiver = SimpleNamespace(_RTCRtpReceiver__timestamp_mapper=SimpleNamespace(_origin=2**32 - 3_600))
    media._came = {2**32 - 3_600: 10.0, 0: 10.04, 3_600: 10.08}
    # The third frame's stamp was never seen.
    media._decoded = [(0, 1.0), (3_600, 2.0), (9_999, 3.0), (7_200, 4.0)]
    assert media.found() == [(10.0, 1.0), (10.04, 2.0), (10.08, 4.0)]
    assert media.found(10.05) == [(10.08, 4.0)]
