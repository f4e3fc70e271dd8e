"""What an operator can set of voices: the table `[speech]`."""

from __future__ import annotations

from typing import Annotated

import msgspec

__all__ = ["SpeechSettings"]

_Ms = Annotated[int, msgspec.Meta(ge=1, le=600_000)]
_Name = Annotated[str, msgspec.Meta(min_length=1, max_length=128)]


class SpeechSettings(msgspec.Struct, frozen=True, kw_only=True):
    """The voices' part of `headrace.toml`."""

    #: The audio encoder among the inference server's models, and how long a request to it may take.
    encoder: _Name = "ave"
    encoder_timeout_ms: _Ms = 2_000
    #: Windows in one request; at most the server's `max_batch`.
    encoder_batch: Annotated[int, msgspec.Meta(ge=1, le=256)] = 16
    #: Average bitrate of Opus.
    opus_bitrate_bps: Annotated[int, msgspec.Meta(ge=6_000, le=128_000)] = 32_000
    #: The voice of who names none; empty = the first there is.
    default_voice: Annotated[str, msgspec.Meta(max_length=128)] = ""

    #: An OpenAI-compatible speech server: base address with /v1. Empty = none.
    openai_url: Annotated[str, msgspec.Meta(max_length=2_048)] = ""
    #: The environment variable with its bearer token; the token itself never stands in a file.
    openai_key_env: Annotated[str, msgspec.Meta(max_length=256)] = ""
    #: Its model, and its voices by the names that they have here; none = one, `default`, that is `alloy` there.
    openai_model: _Name = "tts-1"
    openai_voices: dict[_Name, _Name] = {}
    #: Until its first samples, and the longest silence after them.
    openai_first_audio_ms: _Ms = 10_000
    openai_idle_ms: _Ms = 5_000

    #: espeak-ng in a process of its own, where the extra `speech` is installed.
    espeak: bool = True
    #: Its speed in words a minute.
    espeak_wpm: Annotated[int, msgspec.Meta(ge=80, le=450)] = 165
    #: How often it may die within the window before it is given up.
    espeak_restarts: Annotated[int, msgspec.Meta(ge=0, le=100)] = 5
    espeak_window_ms: _Ms = 60_000

    def __post_init__(self) -> None:
        """Refuse an address that nobody could call."""
        if self.openai_url and not self.openai_url.startswith(("http://", "https://")):
            raise ValueError("openai_url: expected an address that begins with http:// or https://")
