"""Ollama's answers as it writes them: one JSON object a line, cut out of bytes that arrive in any pieces."""

from __future__ import annotations

import msgspec

from edge.protocol.malformed import MalformedError
from streamkit.wire.sse import EventTooLargeError
from streamkit.wire.unreadable import UNREADABLE

__all__ = ["Line", "LineSplitter", "Message", "ToolCall", "line_of"]


class _Function(msgspec.Struct, frozen=True):
    name: str
    #: An object; kept as the engine wrote it.
    arguments: msgspec.Raw = msgspec.Raw(b"{}")


class ToolCall(msgspec.Struct, frozen=True):
    """A whole call: Ollama never sends one in pieces."""

    function: _Function
    id: str = ""


class Message(msgspec.Struct, frozen=True):
    """`message` of `/api/chat`: what this line adds."""

    content: str | None = None
    thinking: str | None = None
    tool_calls: tuple[ToolCall, ...] | None = None


class Line(msgspec.Struct, frozen=True):
    """One line of `/api/chat` or `/api/generate`, or a whole answer; the same shape (facts: gpu-backends §1.2)."""

    model: str = ""
    #: Of `/api/chat`.
    message: Message | None = None
    #: Of `/api/generate`.
    response: str | None = None
    thinking: str | None = None
    done: bool = False
    done_reason: str | None = None
    prompt_eval_count: int = 0
    eval_count: int = 0
    error: str | None = None


_DECODER = msgspec.json.Decoder(Line)


def line_of(data: bytes, *, chat: bool) -> Line:
    """Return one line, read.

    Raises:
        MalformedError: it is no JSON object, not UTF-8, of other types, or of another route.
    """
    try:
        line = _DECODER.decode(data)
    except msgspec.ValidationError as exc:
        # Names a type and a place, never a value.
        raise MalformedError(f"a line of another shape: {exc}") from None
    except UNREADABLE:
        raise MalformedError("a line that is not valid JSON") from None
    if line.error is None and not line.done and (line.message is None if chat else line.response is None):
        raise MalformedError(f"a line without `{'message' if chat else 'response'}`")
    return line


class LineSplitter:
    """Cuts a body into whole lines and holds the half line at the end. LF ends a line; a CR before it is dropped.

    Args:
        max_line_bytes: bound of a line, and so of the held half line.
    """

    __slots__ = ("_max_line_bytes", "_tail")

    def __init__(self, max_line_bytes: int) -> None:
        self._max_line_bytes = max_line_bytes
        self._tail: list[bytes] = []

    @property
    def held_bytes(self) -> int:
        """Bytes of the half line held back."""
        return sum(map(len, self._tail))

    def push(self, chunk: bytes) -> list[bytes]:
        """Take the next bytes; return the lines that are now whole, without empty ones.

        Raises:
            EventTooLargeError: a line, or the half line at the end, is over the bound.
        """
        *whole, rest = chunk.split(b"\n")
        if whole:
            whole[0] = b"".join((*self._tail, whole[0]))
            self._tail = []
        if rest:
            self._tail.append(rest)
        if self.held_bytes > self._max_line_bytes or any(len(line) > self._max_line_bytes for line in whole):
            raise EventTooLargeError(self._max_line_bytes)
        return [stripped for line in whole if (stripped := line.strip(b"\r \t"))]
