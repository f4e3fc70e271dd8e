"""What callers may ask of a session: every field looked at before it does anything."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from compositor.avatars.roots import checked_name
from compositor.encode.codecs import NAMES
from streamkit.wire.errors import Code, HeadraceError
from streamkit.wire.pb import compositor_pb2 as pb

__all__ = ["MAX_TEXT", "bytes_of_pcm", "checked_codec", "checked_codecs", "checked_open", "checked_say", "wrong"]

MAX_TEXT: Final = 4_000
_RATES: Final = (8_000, 48_000)
_MAX_REQUEST_ID: Final = 128


def wrong(param: str, what: str) -> HeadraceError:
    """Return the error of a field."""
    return HeadraceError(Code.INVALID_REQUEST, f"{param}: {what}", param=param)


def checked_open(request: pb.Open, available: Sequence[int]) -> None:
    """Check what needs no look at files.

    Raises:
        HeadraceError: which field, and its limit.
    """
    checked_name(request.avatar, "avatar")
    if request.tenant:
        checked_name(request.tenant, "tenant")
    if request.background:
        checked_name(request.background, "background")
    checked_codecs(request.codecs, available)
    if len(request.request_id) > _MAX_REQUEST_ID or not request.request_id.isprintable():
        raise wrong("request_id", f"expected at most {_MAX_REQUEST_ID} printable characters")


def checked_codecs(codecs: Sequence[int], available: Sequence[int]) -> tuple[int, ...]:
    """Return a list of codecs that can be encoded here, each once.

    Raises:
        HeadraceError: one is unknown, not to be had here, or there twice.
    """
    # Looked at before it is walked through: a list may be as long as a message.
    if len(codecs) > len(NAMES):
        raise wrong("codecs", f"expected at most {len(NAMES)}, got {len(codecs)}")
    if len(set(codecs)) != len(codecs):
        raise wrong("codecs", "expected each once")
    return tuple(checked_codec(codec, available, "codecs") for codec in codecs)


def checked_codec(codec: int, available: Sequence[int], param: str = "codec") -> int:
    """Return a codec that can be encoded here.

    Raises:
        HeadraceError: it is unknown, or not to be had here.
    """
    if codec not in available:
        there = ", ".join(NAMES[one] for one in available) or "none"
        raise wrong(param, f"expected of {there}, got {NAMES.get(codec, codec)}")
    return codec


def checked_say(request: pb.Say) -> str:
    """Return a text to speak.

    Raises:
        HeadraceError: it is empty or too long, or has no number.
    """
    if not request.speech:
        raise wrong("speech", "expected a number above 0")
    if len(request.text) > MAX_TEXT:
        raise wrong("text", f"expected at most {MAX_TEXT} characters, got {len(request.text)}")
    if not request.text.strip():
        raise wrong("text", "expected something to say, got nothing")
    return request.text


def bytes_of_pcm(pcm: bytes, sample_rate: int, channels: int, *, max_s: int) -> int:
    """Return the bytes of a second of sound.

    Args:
        pcm: samples of 16 bits.
        sample_rate: in Hz.
        channels: 1 or 2.
        max_s: the longest piece.

    Raises:
        HeadraceError: a number is out of its range, a sample is cut in half, or it is too long.
    """
    if not _RATES[0] <= sample_rate <= _RATES[1]:
        raise wrong("sample_rate", f"expected {_RATES[0]} to {_RATES[1]}, got {sample_rate}")
    if channels not in (1, 2):
        raise wrong("channels", f"expected 1 or 2, got {channels}")
    sample = 2 * channels
    if len(pcm) % sample:
        raise wrong("pcm", f"expected whole samples of {sample} bytes, got {len(pcm)} bytes")
    second = sample * sample_rate
    if len(pcm) > max_s * second:
        raise wrong("pcm", f"expected at most {max_s} s ({max_s * second} bytes), got {len(pcm)} bytes")
    return second
