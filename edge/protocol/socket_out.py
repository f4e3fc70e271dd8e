"""What we say on a WebSocket: frames composed from bytes, events without a look inside (law 8).

A server's frame is two to ten bytes of header and its text (RFC 6455 §5.2): nothing is masked, nothing is compressed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from itertools import pairwise
from typing import Final

import msgspec

from edge.protocol.splice import top_level
from streamkit.wire.errors import TABLE, Code, HeadraceError, envelope
from streamkit.wire.events import Mark
from streamkit.wire.openai import error_of, marks_of, payload_of
from streamkit.wire.unreadable import UNREADABLE

__all__ = [
    "EventFrames",
    "binary_frame",
    "cancelled_frame",
    "done_frame",
    "error_frame",
    "error_message",
    "messages",
    "refusal_frame",
    "started_frame",
    "text_frame",
]

Headers = Iterable[tuple[bytes, bytes]]

_TEXT: Final = 0x81
_BINARY: Final = 0x82
_CLOSING: Final = ord("}")
_PLAIN: Final = b"data: {"
_BLANK_LINE: Final = re.compile(rb"(?>\r\n|\n|\r)(?>\r\n|\n|\r)")
#: As OpenAI's clients know them; see `streamkit.wire.ratelimit`.
_RATES: Final = b"x-ratelimit-"
_CODES: Final = {code.value: code for code in Code}


def text_frame(message: bytes) -> bytes:
    """Return a message, which is UTF-8, as one unmasked text frame."""
    size = len(message)
    if size < 126:
        return b"%c%c%b" % (_TEXT, size, message)
    if size < 65_536:
        return b"%c\x7e%c%c%b" % (_TEXT, size >> 8, size & 255, message)
    return b"%c\x7f%b%b" % (_TEXT, size.to_bytes(8, "big"), message)


def binary_frame(*parts: bytes) -> bytes:
    """Return bytes as one unmasked binary frame."""
    size = sum(map(len, parts))
    if size < 126:
        head = b"%c%c" % (_BINARY, size)
    elif size < 65_536:
        head = b"%c\x7e%c%c" % (_BINARY, size >> 8, size & 255)
    else:
        head = b"%c\x7f%b" % (_BINARY, size.to_bytes(8, "big"))
    return b"".join((head, *parts))


def _member(value: object) -> bytes:
    return msgspec.json.encode(value)


def started_frame(
    name: str,
    *,
    stream: str,
    request_id: str,
    backend: str | None,
    simulated: bool,
    headers: Headers = (),
) -> bytes:
    """Return the message that a stream is committed: the event stream's status line and headers, so to say.

    Args:
        name: the client's name for it.
        stream: its id, for `resume`; empty where it cannot be resumed.
        request_id: the key of its log line.
        backend: who answers, where that is known.
        simulated: the backend is a simulator.
        headers: of the same answer over HTTP; `x-ratelimit-*` among them become members of the same names.
    """
    message: dict[str, object] = {"type": "started", "id": name, "request_id": request_id}
    if stream:
        message["stream"] = stream
    if backend is not None:
        message["backend"] = backend
    if simulated:
        message["simulated"] = True
    message |= _rates(headers)
    return text_frame(_member(message))


def done_frame(name: str, seq: int) -> bytes:
    """Return the message that a stream ended well; `seq` is the number of its last event, `[DONE]`."""
    return text_frame(_member({"type": "done", "id": name, "seq": seq}))


def cancelled_frame(name: str) -> bytes:
    """Return the message that a stream ended because its client asked for it."""
    return text_frame(_member({"type": "cancelled", "id": name}))


def error_frame(error: HeadraceError, name: str = "") -> bytes:
    """Return an error of ours; without a name it is about a message and ends no stream."""
    return refusal_frame(error.envelope(), error.wire.status, name, error)


def error_message(error: HeadraceError, name: str = "") -> bytes:
    """Return the text of `error_frame`, for transports that frame messages by themselves."""
    return next(iter(messages(error_frame(error, name))))


def messages(frames: bytes) -> Iterable[bytes]:
    """Yield the texts of whole frames of ours."""
    at = 0
    while at < len(frames):
        size, at = frames[at + 1], at + 2
        if size > 125:
            width = 2 if size == 126 else 8
            size, at = int.from_bytes(frames[at : at + width], "big"), at + width
        yield frames[at : at + size]
        at += size


def refusal_frame(body: bytes, status: int, name: str = "", error: HeadraceError | None = None) -> bytes:
    """Return an answer that is no stream as an error message.

    Args:
        body: an envelope, or what an engine wrote in its place; JSON.
        status: the HTTP status that it would have had.
        name: of the stream that it ends.
        error: what it means; has the retry advice.
    """
    head: dict[str, object] = {"type": "error"}
    if name:
        head["id"] = name
    head["status"] = status
    if error is not None and error.retry_after_ms is not None:
        head["retry_after_ms"] = error.retry_after_ms
    if error is not None and error.wire.reason is not None:
        head["reason"] = error.wire.reason
    if error is not None:
        head |= _rates(error.headers())
    return text_frame(_member(head)[:-1] + b',"error":' + _error_object(body) + b"}")


def _rates(headers: Headers) -> dict[str, object]:
    return {name.decode(): value.decode() for name, value in headers if name.startswith(_RATES)}


def _error_object(body: bytes) -> bytes:
    """Return the `error` member of a JSON body byte for byte, or one made of whatever the body says."""
    said = error_of(body, event=False)
    span = top_level(body, b"error") if said is not None and body.lstrip()[:1] == b"{" else None
    if span is not None and body[span[0] : span[0] + 1] == b"{":
        return body[span[0] : span[1]]
    text = said.message if said is not None and said.message else "an error without a message"
    made = envelope(text, type_="server_error", param=None, code=said.code if said is not None else None)
    return made[len(b'{"error":') : -1]


class EventFrames:
    """Turns the events of one stream into frames.

    Args:
        name: the client's name for the stream.
        seq: number of the last event before these.
    """

    __slots__ = ("_head", "_name", "_size", "ended", "seq")

    def __init__(self, name: str, seq: int = 0) -> None:
        self._name = name
        self._head = b'{"type":"event","id":%b,"seq":' % _member(name)
        self._size = len(self._head) + len(b',"data":}')
        #: Number of the last event.
        self.seq = seq
        #: `done` or `error` is among the frames: nothing follows.
        self.ended = False

    def one(self, data: bytes) -> bytes:
        """Return the frame of one ordinary event, or nothing where `frames` must look closer: the hot path.

        Ordinary is one LF-framed line with an object, in UTF-8. A stream's error frame is never by itself.
        """
        size = len(data)
        if (
            data.find(b"\n") != size - 2
            or size < 10
            or data[-3] != _CLOSING
            or not data.startswith(_PLAIN)
            or self.ended
            or not (data.isascii() or _utf8(data))
        ):
            return b""
        self.seq += 1
        seq = b"%d" % self.seq
        size += self._size + len(seq) - 8
        if 125 < size < 65_536:
            return b'\x81\x7e%c%c%b%b,"data":%b}' % (size >> 8, size & 255, self._head, seq, data[6:-2])
        return text_frame(b'%b%b,"data":%b}' % (self._head, seq, data[6:-2]))

    def frames(self, data: bytes) -> list[bytes]:
        """Return one frame for each whole event of `data`; comments give none, and nothing follows the end.

        Nearly every event is LF-framed in one line and carries no error; the others are looked at more closely. An
        `id:` line in front, which only a resumable stream has, numbers its event.
        """
        if b"\r" in data or not data.endswith(b"\n\n"):
            events = [
                data[start:end] for start, end in pairwise((0, *(at.end() for at in _BLANK_LINE.finditer(data))))
            ]
        else:
            events = [event + b"\n\n" for event in data[:-2].split(b"\n\n")]
        found: list[bytes] = []
        for event in events:
            if self.ended:
                break
            if event.startswith(b"id: "):
                number, _, event = event[4:].partition(b"\n")  # noqa: PLW2901
                self.seq = int(number) - 1 if number.isdigit() else self.seq
            if event.find(b"\n") == len(event) - 2 and event.startswith(_PLAIN) and _plain(event):
                found.append(self._event(event[6:-2]))
            elif payload := payload_of(event).strip():
                found.append(self._any(event, payload))
        return found

    def _event(self, payload: bytes) -> bytes:
        self.seq += 1
        return text_frame(b'%b%d,"data":%b}' % (self._head, self.seq, payload))

    def _any(self, event: bytes, payload: bytes) -> bytes:
        if payload == b"[DONE]":
            self.ended = True
            self.seq += 1
            return done_frame(self._name, self.seq)
        if not payload.isascii():
            # A browser fails the whole socket, and all streams on it, for one byte that is no UTF-8. Readers of an
            # event stream see U+FFFD for it (WHATWG), and so do readers here.
            payload = payload.decode(errors="replace").encode()
        if payload[:1] != b"{" or payload[-1:] != b"}":
            payload = _member(payload.decode())
        marks = marks_of(event)
        if marks & Mark.ERROR and not marks & Mark.FINISH:
            self.ended = True
            self.seq += 1
            status, error = _meaning(payload)
            return refusal_frame(payload, status, self._name, error)
        return self._event(payload)


def _plain(event: bytes) -> bool:
    """Say whether an event of one line goes into a message as it is: UTF-8, an object as far as one sees, no error.

    Inside a JSON string quotes are escaped: `"error"` is a key, or a whole value that is looked at for nothing.
    """
    return event.find(b'"error"') < 0 and event.endswith(b"}\n\n") and (event.isascii() or _utf8(event))


def _utf8(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def _meaning(payload: bytes) -> tuple[int, HeadraceError | None]:
    """Return the HTTP status that an error in mid-stream would have had; and the error, if it is one of ours."""
    try:
        code = msgspec.json.decode(payload, type=_Framed).error.code
    except UNREADABLE:
        code = None
    if isinstance(code, str) and code in _CODES:
        error = HeadraceError(_CODES[code], "")
        return error.wire.status, error
    return code if isinstance(code, int) and 400 <= code < 600 else TABLE[Code.STREAM_BROKEN].status, None


class _FramedError(msgspec.Struct, frozen=True):
    code: int | str | None = None


class _Framed(msgspec.Struct, frozen=True):
    error: _FramedError
