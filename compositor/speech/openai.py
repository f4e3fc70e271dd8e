"""Voices of an OpenAI-compatible server: `POST /v1/audio/speech`, streamed as raw 24 kHz samples (`pcm`)."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from typing import Final

import msgspec

from compositor.speech.settings import SpeechSettings
from streamkit.ops.http_client import ByteStream, HttpClient, HttpError
from streamkit.wire.errors import Code, HeadraceError
from streamkit.wire.unreadable import UNREADABLE

__all__ = ["OpenAiEngine"]

#: What the API's `pcm` is (OpenAI's reference of /v1/audio/speech): 24 kHz, 16 bit, mono, no header.
_RATE: Final = 24_000
_CONNECTIONS: Final = 64
_ERROR_BYTES: Final = 16 * 1024
_TOLD_CHARACTERS: Final = 200
#: Beginnings of files that some servers send whatever format was asked for.
_FILES: Final = {b"RIFF": "WAV", b"ID3": "MP3", b"OggS": "Ogg", b"fLaC": "FLAC"}
_DEFAULT_VOICES: Final = {"default": "alloy"}
_HTTP: Final = {
    "timeout": Code.BACKEND_TIMEOUT,
    "connect": Code.NO_BACKEND,
    "closed": Code.STREAM_BROKEN,
}


class OpenAiEngine:
    """One server.

    Args:
        settings: `openai_*` of them.
        environment: where the key is looked up.
    """

    name = "openai"
    sample_rate = _RATE

    def __init__(self, settings: SpeechSettings, environment: Mapping[str, str]) -> None:
        self._settings = settings
        self._url = settings.openai_url.rstrip("/") + "/audio/speech"
        self._voices = dict(settings.openai_voices) or _DEFAULT_VOICES
        self._key_env = settings.openai_key_env
        self._key = environment.get(settings.openai_key_env, "") if settings.openai_key_env else ""
        self._client = HttpClient(max_connections=_CONNECTIONS, limit_bytes=_ERROR_BYTES)

    async def start(self) -> None:
        """Do nothing: the server is asked when somebody speaks."""

    def names(self) -> tuple[str, ...]:
        """Name its voices."""
        return () if self.problem() else tuple(self._voices)

    def problem(self) -> str:
        """Say why it has no voices."""
        if self._key_env and not self._key:
            return f"the environment has no {self._key_env}, which speech.openai_key_env names"
        return ""

    async def speak(self, text: str, voice: str) -> AsyncGenerator[bytes, None]:
        """Give the samples of a text.

        Raises:
            HeadraceError: the server cannot be reached, refuses, is late, stalls, breaks off or sends something else.
        """
        settings = self._settings
        asked = {
            "model": settings.openai_model,
            "voice": self._voices[voice],
            "input": text,
            "response_format": "pcm",
        }
        headers = [("authorization", f"Bearer {self._key}")] if self._key else []
        begun = False
        try:
            async with self._client.stream_bytes(
                self._url, asked, timeout_ms=settings.openai_first_audio_ms, idle_ms=settings.openai_idle_ms,
                headers=headers,
            ) as answer:  # fmt: skip
                if answer.status != 200:
                    raise await _refused(answer)
                odd = b""
                async for piece in answer.pieces:
                    data = odd + piece
                    if not begun and len(data) >= 4:
                        _check_raw(data, answer.headers.get("content-type", ""))
                    whole = len(data) - len(data) % 2
                    odd = data[whole:]
                    if whole:
                        begun = True
                        yield data[:whole]
                if odd:
                    raise HeadraceError(Code.STREAM_BROKEN, "the speech server ended in the middle of a sample")
                if not begun:
                    raise HeadraceError(Code.BACKEND_ERROR, "the speech server answered 200 with no sound")
        except HttpError as error:
            raise _told(error, begun=begun) from None

    async def aclose(self) -> None:
        """Close all connections."""
        await self._client.__aexit__()


def _check_raw(data: bytes, content_type: str) -> None:
    kind = next((name for start, name in _FILES.items() if data.startswith(start)), None)
    if kind is None and content_type.split(";", maxsplit=1)[0].strip() in (
        "application/json",
        "text/html",
        "text/plain",
    ):
        kind = content_type
    if kind is not None:
        raise HeadraceError(
            Code.BACKEND_ERROR,
            f"the speech server sends {kind} where raw samples (response_format pcm) were asked for",
        )


def _told(error: HttpError, *, begun: bool) -> HeadraceError:
    """Return the error of a call that broke; addresses stay in the log of who runs this, not in the message."""
    code = _HTTP.get(error.reason, Code.BACKEND_ERROR)
    if begun:
        stalled = error.reason == "timeout"
        return HeadraceError(
            Code.STREAM_STALLED if stalled else Code.STREAM_BROKEN,
            "the speech server stopped sending in the middle" if stalled else "the speech server broke off",
        )
    words = {
        Code.BACKEND_TIMEOUT: "the speech server sent nothing in time",
        Code.NO_BACKEND: "the speech server cannot be reached",
        Code.STREAM_BROKEN: "the speech server closed the connection without an answer",
    }
    return HeadraceError(code, words.get(code, "the speech server's answer cannot be read"))


async def _refused(answer: ByteStream) -> HeadraceError:
    """Return the error of an answer that is none."""
    body = b""
    async for piece in answer.pieces:
        body += piece
        if len(body) > _ERROR_BYTES:
            break
    said = _said(body)
    if answer.status in (401, 403):
        return HeadraceError(Code.BACKEND_ERROR, f"the speech server refuses the key{said}")
    if answer.status == 429:
        pause = answer.headers.get("retry-after", "")
        pause_ms = int(pause) * 1000 if pause.isdecimal() and len(pause) < 6 else None
        return HeadraceError(Code.SATURATED, f"the speech server is busy{said}", retry_after_ms=pause_ms)
    return HeadraceError(Code.BACKEND_ERROR, f"the speech server answered {answer.status}{said}")


class _Detail(msgspec.Struct):
    message: str = ""


class _Envelope(msgspec.Struct):
    error: _Detail | None = None


def _said(body: bytes) -> str:
    """Return what an OpenAI error body says, shortened."""
    try:
        found = msgspec.json.decode(body, type=_Envelope).error
    except UNREADABLE:
        return ""
    message = " ".join((found.message if found else "").split())[:_TOLD_CHARACTERS]
    return f": {message}" if message else ""
