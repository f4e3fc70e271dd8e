"""Which codecs a viewer gets: what it offers, what is sent here, and what the compositor makes."""

from __future__ import annotations

from collections.abc import Iterable

from edge.avatars.tick import CODECS
from edge.protocol.sdp import Offer
from streamkit.wire.errors import Code, HeadraceError

__all__ = ["chosen", "wanted_of"]


def wanted_of(offer: Offer, offered: frozenset[str], codecs: tuple[str, ...], *, opus: bool) -> tuple[str, ...]:
    """Return the codecs of pictures that could be sent, best first; none = it takes sound only.

    Args:
        offer: what the viewer sent.
        offered: codecs that it and the library have in common.
        codecs: that are sent here, best first.
        opus: it takes Opus.

    Raises:
        HeadraceError: NOT_ACCEPTABLE, UNPROCESSABLE.
    """
    video, audio = offer.of("video"), offer.of("audio")
    if video is None and audio is None:
        text = "The offer has neither video nor audio to receive."
        raise HeadraceError(Code.UNPROCESSABLE, text, param="body")
    for media in (video, audio):
        if media is not None and media.direction not in ("recvonly", "sendrecv"):
            text = f"The offer's {media.kind} is {media.direction}; a viewer receives: recvonly or sendrecv."
            raise HeadraceError(Code.UNPROCESSABLE, text, param="body")
    if audio is not None and not opus:
        raise HeadraceError(Code.NOT_ACCEPTABLE, "Sound is sent in Opus only; the offer has none.", param="body")
    wanted = tuple(codec for codec in codecs if codec in offered)
    if video is not None and not wanted:
        names = ", ".join(codec.upper() for codec in codecs)
        text = f"Pictures are sent in {names}, H.264 as constrained baseline with packetization mode 1."
        raise HeadraceError(Code.NOT_ACCEPTABLE, f"{text} The offer has none of them.", param="body")
    return wanted if video is not None else ()


def chosen(wanted: tuple[str, ...], made: Iterable[int]) -> str | None:
    """Return the codec to send; None = no pictures are wanted.

    Args:
        wanted: see `wanted_of`.
        made: what the compositor can make.

    Raises:
        HeadraceError: NOT_ACCEPTABLE.
    """
    made = set(made)
    codec = next((codec for codec in wanted if CODECS[codec] in made), None)
    if wanted and codec is None:
        names = ", ".join(name.upper() for name, number in CODECS.items() if number in made) or "nothing"
        text = f"The compositor makes {names} for this avatar; the offer has none of it."
        raise HeadraceError(Code.NOT_ACCEPTABLE, text, param="body")
    return codec
