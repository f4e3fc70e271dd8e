"""The two state machines of a chat stream, as tables; the diagrams in docs/architecture.md are drawn from them.

*Stream* is the client's side, *Attempt* is one upstream. A stream has one or more attempts: retry, hedge and
continuation are all "another attempt". Everything that changes a state stands in this module.
"""

from __future__ import annotations

import enum
from typing import Final

__all__ = [
    "ATTEMPT_TABLE",
    "STREAM_TABLE",
    "AttemptEvent",
    "AttemptState",
    "LocalProtocolError",
    "StreamEvent",
    "StreamState",
    "next_attempt",
    "next_stream",
]


class LocalProtocolError(Exception):
    """Our own bug: an event that cannot happen in this state. A peer's faults never raise this."""


class StreamState(enum.Enum):
    """Where the client's side stands."""

    PENDING = "PENDING"  #: no byte sent; an error is still a real HTTP status
    COMMITTED = "COMMITTED"  #: 200 and headers are out; errors are in-band
    DETACHED = "DETACHED"  #: committed, resumable, and nobody is reading just now
    FINISHED = "FINISHED"  #: the engine's own end was delivered
    FAILED = "FAILED"  #: ended in an error the client was told of, or could not be told of
    CANCELLED = "CANCELLED"  #: the client went away or asked to stop
    EXPIRED = "EXPIRED"  #: the resume window closed with nobody reading

    @property
    def ended(self) -> bool:
        """No event leads out of this state."""
        return self in _ENDED


_ENDED: Final = frozenset({StreamState.FINISHED, StreamState.FAILED, StreamState.CANCELLED, StreamState.EXPIRED})


class StreamEvent(enum.Enum):
    """What happens to a stream."""

    COMMIT = "commit"
    FINISH = "finish"
    FAIL = "fail"
    CANCEL = "cancel"
    DETACH = "detach"
    ATTACH = "attach"
    EXPIRE = "expire"


class AttemptState(enum.Enum):
    """Where one upstream stands."""

    QUEUED = "QUEUED"  #: every candidate's permits are taken: it waits for one, and no deadline of an attempt runs
    CONNECTING = "CONNECTING"  #: waiting for a connection
    WAITING = "WAITING"  #: the request is sent; no first event yet, whatever headers say
    FLOWING = "FLOWING"  #: the first event is here
    DONE = "DONE"  #: the body ended as it should; permit and breaker are settled
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"

    @property
    def ended(self) -> bool:
        """No event leads out of this state."""
        return self in _ATTEMPT_ENDED


_ATTEMPT_ENDED: Final = frozenset({AttemptState.DONE, AttemptState.FAILED, AttemptState.CANCELLED})


class AttemptEvent(enum.Enum):
    """What happens to an attempt."""

    GRANTED = "granted"
    SENT = "sent"
    FIRST_EVENT = "first event"
    END = "end"
    FAIL = "fail"
    CANCEL = "cancel"


STREAM_TABLE: Final[dict[tuple[StreamState, StreamEvent], StreamState]] = {
    (StreamState.PENDING, StreamEvent.COMMIT): StreamState.COMMITTED,
    # A whole answer: non-streaming, or the engine's own verdict on the request.
    (StreamState.PENDING, StreamEvent.FINISH): StreamState.FINISHED,
    (StreamState.PENDING, StreamEvent.FAIL): StreamState.FAILED,
    (StreamState.PENDING, StreamEvent.CANCEL): StreamState.CANCELLED,
    (StreamState.COMMITTED, StreamEvent.FINISH): StreamState.FINISHED,
    (StreamState.COMMITTED, StreamEvent.FAIL): StreamState.FAILED,
    (StreamState.COMMITTED, StreamEvent.CANCEL): StreamState.CANCELLED,
    (StreamState.COMMITTED, StreamEvent.DETACH): StreamState.DETACHED,
    (StreamState.DETACHED, StreamEvent.ATTACH): StreamState.COMMITTED,
    (StreamState.DETACHED, StreamEvent.FINISH): StreamState.FINISHED,
    (StreamState.DETACHED, StreamEvent.FAIL): StreamState.FAILED,
    (StreamState.DETACHED, StreamEvent.CANCEL): StreamState.CANCELLED,
    (StreamState.DETACHED, StreamEvent.EXPIRE): StreamState.EXPIRED,
}

ATTEMPT_TABLE: Final[dict[tuple[AttemptState, AttemptEvent], AttemptState]] = {
    (AttemptState.QUEUED, AttemptEvent.GRANTED): AttemptState.CONNECTING,
    # Evicted, or nothing was free in time; no GPU work was spent.
    (AttemptState.QUEUED, AttemptEvent.FAIL): AttemptState.FAILED,
    (AttemptState.QUEUED, AttemptEvent.CANCEL): AttemptState.CANCELLED,
    (AttemptState.CONNECTING, AttemptEvent.SENT): AttemptState.WAITING,
    (AttemptState.CONNECTING, AttemptEvent.FAIL): AttemptState.FAILED,
    (AttemptState.CONNECTING, AttemptEvent.CANCEL): AttemptState.CANCELLED,
    (AttemptState.WAITING, AttemptEvent.FIRST_EVENT): AttemptState.FLOWING,
    # A non-streaming answer has no first event of its own: it is whole or it is nothing.
    (AttemptState.WAITING, AttemptEvent.END): AttemptState.DONE,
    (AttemptState.WAITING, AttemptEvent.FAIL): AttemptState.FAILED,
    (AttemptState.WAITING, AttemptEvent.CANCEL): AttemptState.CANCELLED,
    (AttemptState.FLOWING, AttemptEvent.END): AttemptState.DONE,
    (AttemptState.FLOWING, AttemptEvent.FAIL): AttemptState.FAILED,
    (AttemptState.FLOWING, AttemptEvent.CANCEL): AttemptState.CANCELLED,
}


def next_stream(state: StreamState, event: StreamEvent) -> StreamState:
    """Return the stream's state after `event`.

    Raises:
        LocalProtocolError: the table has no such transition.
    """
    try:
        return STREAM_TABLE[state, event]
    except KeyError:
        raise LocalProtocolError(f"stream is {state.value}: it cannot {event.value}") from None


def next_attempt(state: AttemptState, event: AttemptEvent) -> AttemptState:
    """Return the attempt's state after `event`.

    Raises:
        LocalProtocolError: the table has no such transition.
    """
    try:
        return ATTEMPT_TABLE[state, event]
    except KeyError:
        raise LocalProtocolError(f"attempt is {state.value}: no {event.value!r} can happen") from None
