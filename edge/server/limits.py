"""Bounds of one client connection: as HTTP, and as WebSocket."""

from __future__ import annotations

import msgspec

__all__ = ["ServerLimits", "SocketLimits"]


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


class SocketLimits(msgspec.Struct, frozen=True, kw_only=True):
    """What the client of one WebSocket may send, and how long it may be silent."""

    #: Largest message, its fragments together.
    max_message_bytes: int
    #: Frames a second, pings and fragments included; twice as many in a burst.
    frames_per_s: float
    #: A message must be whole so long after its first byte.
    message_s: float
    #: Silence of the client after which it is pinged.
    ping_s: float
    #: And how long it may go on being silent then.
    pong_s: float
