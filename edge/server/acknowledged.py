"""A reader's progress over TLS, seen by what its kernel has acknowledged."""

from __future__ import annotations

import asyncio
import socket
import struct
from typing import Final

from edge.server.sockets import unsent

__all__ = ["Acknowledged", "over_tls"]

#: Linux: `tcpi_bytes_acked` of `struct tcp_info` (linux/tcp.h, since 4.1).
_ACKED_AT: Final = 120
_INFO_BYTES: Final = _ACKED_AT + 8
_RECORD_BYTES: Final = 16_384
#: More than TLS adds to a record: header, nonce or IV, padding, tag (RFC 8446 §5.2, RFC 5246 §6.2.3).
_OVERHEAD_BYTES: Final = 64


class Acknowledged:
    """What a peer has not acknowledged of what was written to it over TLS.

    Between the session and the socket stands a transport of up to 64 KiB that neither asyncio nor uvloop shows. While
    it empties, the kernel's queue stays full, and a slow reader would look stuck. So bytes are counted from the other
    end: those that the peer has acknowledged. Between two looks at a paused reader only the difference counts.

    Args:
        transport: the connection, over TLS.
    """

    __slots__ = ("_ceiling", "_transport")

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        #: No less than what the connection will have sent by now.
        self._ceiling = self._acked() + _on_the_wire(unsent(transport))

    def sending(self, size: int) -> None:
        """So many bytes are written to the session now."""
        self._ceiling += _on_the_wire(size)

    @property
    def unsent_bytes(self) -> int:
        """At most so many bytes were not acknowledged by the client's kernel; it falls with each that is."""
        acked = self._acked()
        return max(0, self._ceiling - acked) if acked else unsent(self._transport)

    def _acked(self) -> int:
        """Return the bytes that the peer has acknowledged since the connection began; 0 = unknown here."""
        if self._transport.is_closing():
            return 0
        sock = self._transport.get_extra_info("socket")
        if sock is None or sock.fileno() < 0 or sock.family not in (socket.AF_INET, socket.AF_INET6):
            return 0
        try:
            info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _INFO_BYTES)
        except (OSError, AttributeError):  # not Linux
            return 0
        if len(info) < _INFO_BYTES:
            return 0
        return int(struct.unpack_from("=Q", info, _ACKED_AT)[0])


def over_tls(transport: asyncio.Transport) -> bool:
    """Say whether a connection speaks TLS."""
    return transport.get_extra_info("ssl_object") is not None


def _on_the_wire(size: int) -> int:
    # Twice a record: what ends one may begin the next.
    return size + _OVERHEAD_BYTES * (size // _RECORD_BYTES + 2)
