"""The link between compositor and inference server in each encoding, for the blueprint's number of users."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from loadtest.avatar.files import Hop
from loadtest.avatar.inference import FPS, Encoded

__all__ = ["Link", "links"]

#: The blueprint's: 710 users, each of whom speaks 27 % of the time.
USERS: Final = 710
DUTY: Final = 0.27
#: 710 x 6.75 x 1.2 MB = 5.7 GB/s, times 8: answers alone, both factors rounded down. Exactly it would be 47.1.
CLAIMED_GBPS: Final = 45.6


class Link(msgspec.Struct, frozen=True, kw_only=True):
    """Measured sizes of one frame's messages, times all users' frames."""

    encoding: str
    #: Whether frames travel in every request, as in the blueprint; else they are registered once.
    raw: bool
    request_bytes: int
    answer_bytes: int
    users: int = USERS
    frames_per_s_per_user: float = FPS * DUTY
    to_inference_gbps_extrapolated: float
    to_compositor_gbps_extrapolated: float
    claimed_gbps: float = CLAIMED_GBPS
    #: Answers, as the blueprint has it: its 45.6 Gbit/s are 1.
    to_compositor_of_claim: float
    #: The blueprint leaves requests out.
    both_of_claim: float


def links(raw: Hop, encodings: Sequence[Encoded]) -> list[Link]:
    """Return the blueprint's own messages, then ours in each encoding.

    Args:
        raw: its way, for the sizes of its messages.
        encodings: with frames registered.
    """
    ours = [_link(one.encoding, one.request_bytes, one.answer_bytes, raw=False) for one in encodings]
    return [_link("FLOAT32", raw.request_bytes, raw.answer_bytes, raw=True), *ours]


def _link(encoding: str, request_bytes: int, answer_bytes: int, *, raw: bool) -> Link:
    there, back = (size * 8 * USERS * FPS * DUTY / 1e9 for size in (request_bytes, answer_bytes))
    return Link(
        encoding=encoding,
        raw=raw,
        request_bytes=request_bytes,
        answer_bytes=answer_bytes,
        to_inference_gbps_extrapolated=there,
        to_compositor_gbps_extrapolated=back,
        to_compositor_of_claim=back / CLAIMED_GBPS,
        both_of_claim=(there + back) / CLAIMED_GBPS,
    )
