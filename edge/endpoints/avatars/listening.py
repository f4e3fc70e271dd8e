"""Sound from viewers: a microphone as it comes, or a posted file in pieces."""

from __future__ import annotations

import asyncio
import io
import re
import wave
from array import array
from collections.abc import Iterator
from time import monotonic
from typing import Final

import msgspec

from edge.avatars.session import Session
from streamkit.wire.errors import Code, HeadraceError
from streamkit.wire.pb import compositor_pb2 as pb

__all__ = ["Microphone", "Pcm", "pcm_of", "play"]

_MICROPHONE_HZ: Final = 48_000
#: Pieces of 20 ms are sent two at a time: half as many messages.
_PIECE_BYTES: Final = _MICROPHONE_HZ * 2 // 25
#: The highest sample of a piece in which somebody speaks (-36 dBFS), and how many quiet pieces end a speech: 0.6 s.
_LOUD: Final = 500
_HANGOVER: Final = 15
#: Pieces of posted sound, and how far ahead of its hearing it is sent.
_PIECE_S: Final = 0.5
_AHEAD_S: Final = 5.0
_RAW: Final = re.compile(r"audio/(?:l16|pcm)\s*;(?P<parameters>.*)", re.IGNORECASE | re.DOTALL)
_PARAMETER: Final = re.compile(r"\s*(rate|channels)=(\d{1,6})\s*")
_RATES: Final = range(8_000, 48_001)


class Microphone:
    """The live sound of one viewer: a speech for each time that it is loud, so that others may speak in between.

    Args:
        session: that it drives.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self._epoch = 0
        #: Under way; 0 = it is quiet.
        self._speech = 0
        self._quiet = 0
        self._held = b""

    def take(self, pcm: bytes) -> None:
        """Take 16 bit mono at 48 kHz."""
        self._held += pcm
        if len(self._held) < _PIECE_BYTES:
            return
        piece, self._held = self._held, b""
        samples = array("h", piece)
        self._quiet = 0 if max(*samples, -min(samples)) > _LOUD else self._quiet + 1
        session = self._session
        if self._epoch != session.epoch:
            # What was being said is dropped with all else.
            self._epoch, self._speech = session.epoch, 0
        if not self._speech:
            if self._quiet:
                return
            self._speech = session.speech.number()
        ends = self._quiet >= _HANGOVER
        session.call.live(
            pb.Sound(
                epoch=self._epoch,
                speech=self._speech,
                pcm=piece,
                sample_rate=_MICROPHONE_HZ,
                channels=1,
                end=ends,
            )
        )
        if ends:
            self._speech = 0


async def play(session: Session, pcm: Pcm, epoch: int, number: int) -> None:
    """Give a session posted sound at the pace of its hearing, and a few seconds ahead: more may not wait there.

    Args:
        session: that it drives.
        pcm: the sound.
        epoch: when it was posted; an interruption ends it.
        number: of the speech.

    Raises:
        HeadraceError: the session has ended.
    """
    began = monotonic()
    pieces = list(pcm.pieces())
    for at, piece in enumerate(pieces, 1):
        ahead_s = (at * _PIECE_S) - (monotonic() - began) - _AHEAD_S
        if ahead_s > 0:
            await asyncio.sleep(ahead_s)
        if session.epoch != epoch:
            return
        await session.call.sound(
            pb.Sound(
                epoch=epoch,
                speech=number,
                pcm=piece,
                sample_rate=pcm.rate,
                channels=pcm.channels,
                end=at == len(pieces),
            )
        )


class Pcm(msgspec.Struct, frozen=True, kw_only=True):
    """Sound: signed 16 bit little endian, interleaved."""

    data: bytes
    rate: int
    channels: int

    @property
    def duration_ms(self) -> int:
        """Its length."""
        return len(self.data) * 1000 // (2 * self.channels * self.rate)

    def pieces(self) -> Iterator[bytes]:
        """Yield at most half a second at a time."""
        size = int(self.rate * _PIECE_S) * 2 * self.channels
        for at in range(0, len(self.data), size):
            yield self.data[at : at + size]


def pcm_of(body: bytes, content_type: bytes) -> Pcm:
    """Return posted sound.

    Args:
        body: a WAV file, or samples.
        content_type: `audio/wav`, or `audio/l16;rate=16000;channels=1` with samples in little endian.

    Raises:
        HeadraceError: UNSUPPORTED_TYPE, INVALID_REQUEST; names what is wrong.
    """
    kind = content_type.decode("latin-1").strip()
    if kind.lower().partition(";")[0] in ("audio/wav", "audio/x-wav", "audio/wave", "audio/vnd.wave"):
        return _checked(_wav(body))
    match = _RAW.fullmatch(kind)
    if match is None:
        text = "Post a WAV file (audio/wav), or samples as audio/l16;rate=16000;channels=1."
        raise HeadraceError(Code.UNSUPPORTED_TYPE, text, param="Content-Type")
    found = {"rate": 0, "channels": 1}
    for part in match["parameters"].split(";"):
        parameter = _PARAMETER.fullmatch(part)
        if parameter is None:
            text = f"`{part.strip()[:40]}` is neither rate= nor channels=."
            raise HeadraceError(Code.INVALID_REQUEST, text, param="Content-Type")
        found[parameter[1]] = int(parameter[2])
    return _checked(Pcm(data=body, rate=found["rate"], channels=found["channels"]))


def _wav(body: bytes) -> Pcm:
    try:
        with wave.open(io.BytesIO(body)) as file:
            if file.getsampwidth() != 2:
                text = f"The WAV file has {8 * file.getsampwidth()} bits a sample; it must have 16."
                raise HeadraceError(Code.UNSUPPORTED_TYPE, text, param="body")
            return Pcm(
                data=file.readframes(file.getnframes()), rate=file.getframerate(), channels=file.getnchannels()
            )
    except (wave.Error, EOFError) as exc:
        text = f"The body is no WAV file that can be read: {str(exc) or 'it is cut off'}."
        raise HeadraceError(Code.INVALID_REQUEST, text, param="body") from None


def _checked(found: Pcm) -> Pcm:
    if found.rate not in _RATES:
        text = f"The rate is {found.rate}; it must be from {_RATES.start} to {_RATES.stop - 1} samples a second."
        raise HeadraceError(Code.INVALID_REQUEST, text, param="rate")
    if found.channels not in (1, 2):
        text = f"There are {found.channels} channels; it must be 1 or 2."
        raise HeadraceError(Code.INVALID_REQUEST, text, param="channels")
    if not found.data or len(found.data) % (2 * found.channels):
        text = "The sound must hold whole samples of 16 bits for each channel, and one at least."
        raise HeadraceError(Code.INVALID_REQUEST, text, param="body")
    return found
