"""The writer over TLS: the same, but for how the reader's progress is seen."""

from __future__ import annotations

import asyncio

from edge.server.acknowledged import Acknowledged, over_tls
from edge.server.writer import Writer

__all__ = ["TlsWriter", "writer_of"]


class TlsWriter(Writer):
    """Writes the middle of one response body over TLS; a slow reader is judged by `Acknowledged`."""

    __slots__ = ("_progress",)

    def __init__(self, transport: asyncio.Transport, *, chunked: bool, paused: bool = False) -> None:
        super().__init__(transport, chunked=chunked, paused=paused)
        self._progress = Acknowledged(transport)

    def write(self, data: bytes) -> bool:
        """Write whole events as one chunk; see `Writer.write`."""
        self._progress.sending(len(data))
        return super().write(data)

    @property
    def unsent_bytes(self) -> int:
        """See `Acknowledged.unsent_bytes`; 0 when the response is over."""
        return self._progress.unsent_bytes if self._transport is not None else 0


def writer_of(transport: asyncio.Transport, http_version: str, *, paused: bool) -> Writer:
    """Return the writer for an answer on a connection, with or without TLS; HTTP/1.0 knows no chunks."""
    kind = TlsWriter if over_tls(transport) else Writer
    return kind(transport, chunked=http_version != "1.0", paused=paused)
