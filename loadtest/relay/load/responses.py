"""Reading HTTP/1.1 responses and their events: as little work per token as is still correct.

It must not be the bottleneck, so it knows what a benchmark needs: status, keep-alive, the three ways in which a body
is delimited (RFC 9112 section 6.3), and whole server-sent events.
"""

from __future__ import annotations

from typing import Final

from loadtest.relay.load.chunks import COUNT_MARK, STAMP_DIGITS, STAMP_MARK

_HEAD_MAX_BYTES: Final = 65536


class ProtocolError(Exception):
    """The gateway sent what is not HTTP."""


class ResponseReader:
    """Takes the bytes of responses that follow each other on one connection and gives back their bodies."""

    __slots__ = ("_chunked", "_held", "_in_body", "_left", "ended", "keep_alive", "status")

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Get ready for the next response."""
        self.status = 0
        self.ended = False
        self.keep_alive = True
        self._in_body = False
        self._chunked = False
        #: Bytes of the body or chunk that are still to come; -1 = up to the connection's end.
        self._left = 0
        self._held = b""

    def feed(self, data: bytes) -> bytes:
        """Return what `data` adds to the body.

        Raises:
            ProtocolError: the bytes are not a response.
        """
        if self._held:
            data = self._held + data
            self._held = b""
        position = 0
        if not self._in_body:
            position = self._head(data)
            if not position:
                return b""
        if self._chunked:
            return self._chunks(data, position)
        body = data[position:] if position else data
        if self._left >= 0:
            body = body[: self._left]
            self._left -= len(body)
            self.ended = self._left == 0
        return body

    def feed_eof(self) -> None:
        """The connection has ended: so has a body that nothing else delimits."""
        if self._in_body and not self._chunked and self._left < 0:
            self.ended = True
        self.keep_alive = False

    def _head(self, data: bytes) -> int:
        end = data.find(b"\r\n\r\n")
        if end < 0:
            if len(data) > _HEAD_MAX_BYTES:
                raise ProtocolError("a response head of more than 64 KiB")
            self._held = data
            return 0
        status_line, *lines = data[:end].split(b"\r\n")
        words = status_line.split(b" ", 2)
        if len(words) < 2 or not words[0].startswith(b"HTTP/1.") or not words[1].isdigit():
            raise ProtocolError(f"not a status line: {status_line[:80]!r}")
        self.status = int(words[1])
        self.keep_alive = words[0] != b"HTTP/1.0"
        self._left = -1
        for line in lines:
            name, _, value = line.partition(b":")
            name, value = name.lower(), value.strip().lower()
            if name == b"content-length":
                self._left = int(value)
            elif name == b"transfer-encoding":
                self._chunked = value.endswith(b"chunked")
            elif name == b"connection":
                self.keep_alive = value != b"close"
        self._in_body = True
        if self._chunked:
            self._left = 0
        elif self._left == 0:
            self.ended = True
        elif self._left < 0:
            self.keep_alive = False
        return end + 4

    def _chunks(self, data: bytes, position: int) -> bytes:
        """Undo chunked coding; `_left` counts a chunk's data with the line end behind it."""
        parts: list[bytes] = []
        size = len(data)
        left = self._left
        while position < size and not self.ended:
            if left > 2:
                stop = min(size, position + left - 2)
                parts.append(data[position:stop])
                left -= stop - position
                position = stop
            elif left:
                taken = min(left, size - position)
                left -= taken
                position += taken
            else:
                end = data.find(b"\r\n", position)
                if end < 0:
                    self._held = data[position:]
                    break
                try:
                    length = int(data[position:end].partition(b";")[0], 16)
                except ValueError:
                    raise ProtocolError(f"not a chunk size: {data[position : position + 20]!r}") from None
                if length:
                    position = end + 2
                    left = length + 2
                else:
                    # The trailer section, which may be empty, ends in an empty line.
                    if data.find(b"\r\n\r\n", end) < 0:
                        self._held = data[position:]
                        break
                    self.ended = True
        self._left = left
        return parts[0] if len(parts) == 1 else b"".join(parts)


class EventScanner:
    """Finds the tokens in a stream's body, whatever pieces it arrives in."""

    __slots__ = ("_held", "done", "error", "promised", "tokens")

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Get ready for the next stream."""
        self._held = b""
        self.tokens = 0
        #: How many tokens the backend says it sent; -1 = it has not said.
        self.promised = -1
        self.done = False
        self.error = ""

    def stamps(self, body: bytes) -> list[int]:
        """Return the send stamps (monotonic ns) of the tokens that `body` completes."""
        if self._held:
            body = self._held + body
        if b"\r" in body:
            body = body.replace(b"\r\n", b"\n")
        *events, self._held = body.split(b"\n\n")
        found: list[int] = []
        for event in events:
            at = event.find(STAMP_MARK)
            if at >= 0 and (digits := event[at + 1 : at + 1 + STAMP_DIGITS]).isdigit():
                found.append(int(digits))
            elif event:
                self._other(event)
        self.tokens += len(found)
        return found

    def _other(self, event: bytes) -> None:
        if b"[DONE]" in event:
            self.done = True
        elif event.startswith(b":"):
            return
        elif b'"error"' in event and b'"choices"' not in event:
            self.error = self.error or event[:300].decode(errors="replace")
        elif (at := event.find(COUNT_MARK)) >= 0:
            digits = event[at + 1 : event.find(COUNT_MARK, at + 1)]
            if digits.isdigit():
                self.promised = int(digits)
