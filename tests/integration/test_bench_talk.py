"""`headrace bench talk`: a conversation with a real face, as a viewer has it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from loadtest.talk import cli


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_a_face_is_there_answers_while_it_thinks_and_is_quiet_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    file = tmp_path / "talk.json"
    assert cli.main(["--rounds", "1", "--json", str(file)]) == 0, capsys.readouterr().err
    report = json.loads(file.read_text())
    (one,) = report["rounds"]
    assert one["first_picture_ms"] > 0
    assert one["sound_after_sentence_ms"] > one["sound_after_certain_ms"]
    assert one["sound_before_end_ms"] > 1_000, "it speaks before the answer is whole"
    # As many as the interruption itself takes to arrive, and no speech that goes on.
    assert max(one["stale_picture_ms"], one["stale_sound_ms"]) < 1_000
    assert json.loads(capsys.readouterr().out) == report
