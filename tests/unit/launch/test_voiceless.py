"""What is told where avatars could not speak."""

from __future__ import annotations

import pytest

from launch import config


def told(tmp_path, toml: str) -> list[str]:
    (tmp_path / "headrace.toml").write_text(f"[simulator]\n{toml}")
    return [note for note in config.notes(config.load(tmp_path / "headrace.toml")) if "voice" in note]


@pytest.mark.parametrize(
    ("toml", "notes"),
    [
        ("", []),
        ("[compositor]\n[speech]\nespeak = false\n", ["avatars have no voice: pip install"]),
        ('[compositor]\n[speech]\nespeak = false\nopenai_url = "http://127.0.0.1:1/v1"\n', []),
        (
            '[compositor]\n[speech]\nespeak = false\nopenai_url = "http://x/v1"\nopenai_key_env = "NOT_SET_HERE"\n',
            ["speech: the environment here has no NOT_SET_HERE"],
        ),
    ],
)
def test_a_voice_that_is_missing_is_seen_before_anything_runs(tmp_path, toml, notes):
    found = told(tmp_path, toml)
    assert len(found) == len(notes)
    assert all(note.startswith(start) for note, start in zip(found, notes, strict=True))


def test_espeak_counts_where_it_is_installed(tmp_path, monkeypatch):
    for there, notes in ((object(), 0), (None, 1)):
        monkeypatch.setattr("launch.avatar.importlib.util.find_spec", lambda _, there=there: there)
        assert len(told(tmp_path, "[compositor]\n")) == notes
