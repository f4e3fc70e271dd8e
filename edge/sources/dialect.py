"""How an engine that does not speak OpenAI's format is spoken to: what an `Exchange` asks of a dialect."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from edge.streams.contracts import UpstreamRequest
from streamkit.wire.events import Batch
from streamkit.wire.sse import CONTENT_TYPE, EventSplitter

__all__ = ["Dialect", "Dialects", "Splitter", "openai"]


class Splitter(Protocol):
    """Takes a body piece by piece."""

    def push(self, chunk: bytes) -> Batch | None:
        """Return the events that are whole now.

        Raises:
            EventTooLargeError: one is over its bound.
            MalformedError: the bytes are not of the engine's format.
        """


class Dialect(Protocol):
    """One request in the engine's words, and the way back for its answer."""

    path: bytes
    body: bytes
    #: What an event stream of this engine calls itself.
    stream_type: bytes

    def splitter(self, max_event_bytes: int) -> Splitter:
        """Return what turns the body of a stream into events."""

    def whole(self, status: int, body: bytes) -> tuple[int, bytes]:
        """Return status and body of a whole answer, in OpenAI's words.

        Raises:
            MalformedError: the body is not of the engine's format.
        """


#: Makes the dialect of a request. Raises HeadraceError where the request cannot be put to the engine.
Dialects = Callable[[UpstreamRequest], Dialect]


class _OpenAI:
    """No dialect at all: everything as it is."""

    __slots__ = ("_one_choice", "body", "path")
    stream_type = CONTENT_TYPE

    def __init__(self, request: UpstreamRequest) -> None:
        self.path = request.path
        self.body = request.body
        self._one_choice = request.one_choice

    def splitter(self, max_event_bytes: int) -> EventSplitter:
        return EventSplitter(max_event_bytes, one_choice=self._one_choice)

    def whole(self, status: int, body: bytes) -> tuple[int, bytes]:
        return status, body


openai: Dialects = _OpenAI
