"""Bounds of one client connection."""

from __future__ import annotations

import msgspec

__all__ = ["ServerLimits"]


class ServerLimits(msgspec.Struct, frozen=True, kw_only=True):
    """What one client may send, hold and take in time."""

    max_header_bytes: int
    #: Kept of requests that arrive while an earlier one is being answered.
    max_pipelined_bytes: int
    header_s: float
    body_s: float
    #: High mark of the transport's buffer; the low mark is a quarter.
    write_high_bytes: int
    #: `TCP_NOTSENT_LOWAT`: what the kernel may hold beyond what the network is carrying.
    notsent_bytes: int
    #: `TCP_USER_TIMEOUT`: unacknowledged for so long = gone.
    user_timeout_ms: int
