"""A connection of a gateway to the benchmark's backend."""

from __future__ import annotations

import socket

from loadtest.relay.load import chunks


class Peer:
    """One connection of a gateway, and the stream on it, if any."""

    __slots__ = (
        "backlog", "fd", "flood", "inbox", "limit", "live", "number", "out_armed", "pieces", "sent", "sock", "usage",
    )  # fmt: skip

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.fd = sock.fileno()
        self.inbox = b""
        self.backlog = b""
        self.pieces: chunks.StreamBytes | None = None  # None between requests.
        self.number = 0
        self.limit = 0
        self.sent = 0
        self.usage = False
        #: This stream is sent as fast as its reader takes it, whatever the pace.
        self.flood = False
        self.live = True
        self.out_armed = False
