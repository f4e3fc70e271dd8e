"""A stream over `WS /v1/ws`: the client's frames, and a reader that gives back what an event stream would have said.

One stream to a socket, so that a run beside SSE compares like with like; as little work per token as is correct.
"""

from __future__ import annotations

import json
from typing import Final

from loadtest.relay.load.chunks import DONE, MODEL
from loadtest.relay.load.responses import ProtocolError

_HEAD_MAX_BYTES: Final = 65536
_KEY: Final = "aGVhZHJhY2UtYmVuY2ghIQ=="


def handshake_bytes(host: str, port: int) -> bytes:
    """Return an opening handshake (RFC 6455 section 4.1)."""
    return (
        f"GET /v1/ws HTTP/1.1\r\nHost: {host}:{port}\r\nUser-Agent: headrace-bench\r\nUpgrade: websocket\r\n"
        f"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {_KEY}\r\n\r\n"
    ).encode()


def start_frame(prompt: str, max_tokens: int) -> bytes:
    """Return the message that begins a stream, masked by zeros, which leave it as it is."""
    request = {
        "model": MODEL,
        "messages": [{"role": "user", "content": prompt}],
        "max_tokens": max_tokens,
        "stream": True,
    }
    text = json.dumps({"type": "start", "id": "s", "operation": "chat", "request": request}).encode()
    return b"\x81\xfe" + len(text).to_bytes(2, "big") + b"\0\0\0\0" + text


class SocketReader:
    """Takes the bytes of one socket; has the face of a `ResponseReader`.

    Args:
        start: the first message, to be sent once the handshake is answered.
    """

    __slots__ = ("_held", "_open", "_start", "ended", "keep_alive", "pending", "status")

    def __init__(self, start: bytes) -> None:
        self._start = start
        self.reset()

    def reset(self) -> None:
        """Get ready for a new socket."""
        self.status = 0
        self.ended = False
        #: A socket carries one stream here.
        self.keep_alive = False
        #: To be sent now.
        self.pending = b""
        self._open = False
        self._held = b""

    def feed(self, data: bytes) -> bytes:
        """Return what `data` adds to the stream, as events: each text, and `[DONE]` for `done`.

        Raises:
            ProtocolError: the bytes are no handshake's answer, or no frames of a server.
        """
        if self._held:
            data = self._held + data
            self._held = b""
        position = 0
        if not self._open:
            position = self._head(data)
            if not position or self.status != 200:
                return data if position else b""
        size = len(data)
        events: list[bytes] = []
        while size - position >= 2:
            length = data[position + 1]
            start = position + 2
            if length == 126:
                start += 2
                length = int.from_bytes(data[position + 2 : start], "big")
            elif length == 127:
                start += 8
                length = int.from_bytes(data[position + 2 : start], "big")
            if size < start + length:
                break
            self._frame(data[position], data[start : start + length], events)
            position = start + length
        self._held = data[position:]
        return b"".join(events)

    def feed_eof(self) -> None:
        """The connection has ended; a stream that has not is cut."""

    def _frame(self, head: int, text: bytes, events: list[bytes]) -> None:
        if head == 0x81:
            if text.startswith(b'{"type":"done"'):
                events.append(DONE)
                self.ended = True
            elif text.startswith(b'{"type":"error"'):
                events.append(text + b"\n\n")
                self.ended = True
            elif text.startswith(b'{"type":"event"'):
                events.append(text + b"\n\n")
        elif head not in (0x88, 0x89):  # the connection's end follows a close; pings need no answer for some seconds
            raise ProtocolError(f"not a server's frame: {head:#x}")

    def _head(self, data: bytes) -> int:
        end = data.find(b"\r\n\r\n")
        if end < 0:
            if len(data) > _HEAD_MAX_BYTES:
                raise ProtocolError("a response head of more than 64 KiB")
            self._held = data
            return 0
        words = data[:end].split(b"\r\n", 1)[0].split(b" ", 2)
        if len(words) < 2 or not words[0].startswith(b"HTTP/1.") or not words[1].isdigit():
            raise ProtocolError(f"not a status line: {data[:80]!r}")
        self.status = int(words[1])
        if self.status == 101:
            # Told on as an event stream's, which it is from here on.
            self.status = 200
            self._open = True
            self.pending = self._start
        return end + 4
