"""Settings of voices."""

from __future__ import annotations

import pytest

from compositor.speech.settings import SpeechSettings
from streamkit.ops.settings import SettingsError, convert


def test_defaults_need_nothing():
    found = SpeechSettings()
    assert (found.openai_url, found.espeak, found.encoder) == ("", True, "ave")


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"openai_url": "127.0.0.1:8880/v1"}, "openai_url: expected an address that begins with http"),
        ({"espeak_wpm": 10}, "espeak_wpm"),
        ({"opus_bitrate_bps": 1}, "opus_bitrate_bps"),
        ({"openai_voices": {"": "x"}}, "openai_voices"),
        ({"voice": "x"}, "voice"),
    ],
)
def test_a_bad_value_names_its_key(given, told):
    with pytest.raises(SettingsError, match=told):
        convert(given, SpeechSettings, "headrace.toml", key="speech")
