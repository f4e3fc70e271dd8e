"""Server-sent events: finding whole events in bytes that arrive in any pieces.

Follows the WHATWG event-stream grammar: lines end in LF, CRLF or CR, an empty line ends an event, lines that begin
with a colon are comments. Payloads are never decoded (law 8). Comments, `id:` and `retry:` lines are hop-by-hop and
dropped: an engine's keep-alive is none of the client's, and a foreign id would clash with our own.
"""

from __future__ import annotations

import re
from typing import Final

from streamkit.wire.events import Batch, Event
from streamkit.wire.openai import marks_of, ordinary

__all__ = ["CONTENT_TYPE", "EventSplitter", "EventTooLargeError", "heartbeat", "split_events", "whole_bytes"]

CONTENT_TYPE: Final = b"text/event-stream"
_LF: Final = ord("\n")
_D: Final = ord("d")
_BOM: Final = b"\xef\xbb\xbf"
#: Two line ends in a row. Atomic, so that CRLF is never read as CR and then LF.
_BLANK_LINE: Final = re.compile(rb"(?>\r\n|\n|\r)(?>\r\n|\n|\r)")
_LINE: Final = re.compile(rb"[^\r\n]*(?>\r\n|\n|\r)")
_HOP_BY_HOP: Final = re.compile(rb":|(?:id|retry)[:\r\n]")
_COMMENTS: Final = re.compile(rb"(?::[^\r\n]*\n)*")
_DATA_LINE: Final = re.compile(rb"data[:\r\n]")


class EventTooLargeError(Exception):
    """An event grew past the bound before its end was seen."""

    def __init__(self, limit_bytes: int) -> None:
        super().__init__(f"an event from the engine is larger than max_event_bytes = {limit_bytes}")
        self.limit_bytes = limit_bytes


def heartbeat(*, ids: bool) -> bytes:
    """Return the comment that keeps a silent stream alive.

    With ids on it ends in ONE newline: openai-python loses a stream in which a blank line follows a comment
    while an id is remembered (facts: streaming-conventions §5.2).
    """
    return b": ping\n" if ids else b": ping\n\n"


def split_events(data: bytes) -> list[bytes]:
    """Return the whole events that `data` joins, as `EventSplitter` delivered them, one by one."""
    if b"\r" not in data:
        if data.find(b"\n\n") == len(data) - 2:
            return [data]
        parts = data.split(b"\n\n")
        rest = parts.pop()
        return [part + b"\n\n" for part in parts] + ([rest] if rest else [])
    events: list[bytes] = []
    start = 0
    for match in _BLANK_LINE.finditer(data):
        events.append(data[start : match.end()])
        start = match.end()
    return events + ([data[start:]] if start < len(data) else [])


def whole_bytes(data: bytes) -> int:
    """Return how many bytes at the beginning of `data` are whole events, and whole comment lines behind them."""
    cut = _cut(data)
    comments = _COMMENTS.match(data, cut)
    return comments.end() if comments is not None else cut


class EventSplitter:
    """Cuts one upstream body into batches of whole events and holds the half event at the end.

    An engine is taken to keep to one way of ending its lines: where LF and lone CR are mixed within one read, the
    events come out whole and in order, but may be counted and classed as one.

    Args:
        max_event_bytes: bound of an event, and so of the held half event, in bytes.
        one_choice: the request asked for one choice, so an event has at most one `finish_reason`.
    """

    __slots__ = ("_at_start", "_max_event_bytes", "_ordinary_bytes", "_tail")

    def __init__(self, max_event_bytes: int, *, one_choice: bool = True) -> None:
        self._max_event_bytes = max_event_bytes
        #: Up to this size the first look in `push` may decide; it cannot judge events of several choices.
        self._ordinary_bytes = max_event_bytes if one_choice else 0
        self._tail = b""
        self._at_start = True

    @property
    def held_bytes(self) -> int:
        """Bytes of the half event held back."""
        return len(self._tail)

    def push(self, chunk: bytes) -> Batch | None:
        """Take the next bytes of the body; return the events that are now whole, or None.

        Raises:
            EventTooLargeError: an event, or the half event at the end, is over the bound.
        """
        if self._tail:
            chunk = self._tail + chunk
        # The common case, and nearly the only one that a paced stream ever sees: one event of one line, LF-framed,
        # with nothing finished. Indexing and searching from the end are the cheapest ways to say so (0.4 us).
        if (
            chunk.find(b"\n") == len(chunk) - 2
            and chunk[0] == _D
            and chunk[-1] == _LF
            and chunk.rfind(b'"finish_reason":null') > 0
            and len(chunk) <= self._ordinary_bytes
        ):
            self._tail = b""
            self._at_start = False
            return Batch(chunk, 1)
        return self._push_any(chunk)

    def _push_any(self, chunk: bytes) -> Batch | None:
        if self._at_start:
            # A byte order mark may precede the stream, and may itself arrive in pieces.
            if len(chunk) < len(_BOM) and _BOM.startswith(chunk):
                self._tail = chunk
                return None
            self._at_start = False
            chunk = chunk.removeprefix(_BOM)
        cut = _cut(chunk)
        # Blank lines before an event are no part of it, and are not held for it.
        self._tail = chunk[cut:].lstrip(b"\r\n")
        if len(self._tail) > self._max_event_bytes:
            raise EventTooLargeError(self._max_event_bytes)
        if not cut:
            return None
        whole = chunk[:cut]
        count = whole.count(b"\n\n")
        if (
            count > 1
            and len(whole) <= self._max_event_bytes
            and b"\r" not in whole
            and whole.startswith(b"data:")
            and whole.count(b"\n") == 2 * count
            and whole.count(b"\n\ndata:") == count - 1
            and ordinary(whole, count)
        ):
            return Batch(whole, count)
        return self._one_by_one(whole)

    def _one_by_one(self, whole: bytes) -> Batch | None:
        events: list[Event] = []
        union = 0
        start = 0
        for match in _BLANK_LINE.finditer(whole):
            event = whole[start : match.end()].lstrip(b"\r\n")
            start = match.end()
            if len(event) > self._max_event_bytes:
                raise EventTooLargeError(self._max_event_bytes)
            data = _without_hop_by_hop(event)
            if data:
                marks = marks_of(data)
                union |= marks
                events.append(Event(data, marks))
        if not events:
            return None
        return Batch(b"".join(event.data for event in events), len(events), union, tuple(events))


def _without_hop_by_hop(event: bytes) -> bytes:
    """Return an event without comments, ids and retry advice; empty when no data line is left."""
    if event.startswith(b"data:") and event.count(b"\n") == 2 and event.endswith(b"\n\n") and b"\r" not in event:
        return event
    lines = [line for line in _LINE.findall(event) if _HOP_BY_HOP.match(line) is None]
    if not any(_DATA_LINE.match(line) for line in lines):
        return b""
    return b"".join(lines)


def _cut(chunk: bytes) -> int:
    """Return where the last whole event of `chunk` ends."""
    if b"\r" not in chunk:
        return chunk.rfind(b"\n\n") + 2 if b"\n\n" in chunk else 0
    # A CR at the very end may be half of a CRLF: decide when the next byte is here.
    end = len(chunk) - 1 if chunk.endswith(b"\r") else len(chunk)
    cut = 0
    for match in _BLANK_LINE.finditer(chunk, 0, end):
        cut = match.end()
    return cut
