"""What JetStream's streams are planned to be, and what it says of them: shapes, and no library."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

__all__ = ["Source", "SourceFigures", "Stored", "StreamAnswer", "StreamFigures", "StreamPlan"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A stream that another one gathers from."""

    stream: str
    #: The JetStream domain that has it; empty = that of the gathering stream.
    domain: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamPlan:
    """How a stream is to be."""

    name: str
    subjects: tuple[str, ...] = ()
    sources: tuple[Source, ...] = ()
    #: Bound in bytes on the broker's disk; then the oldest messages go.
    max_bytes: int
    max_age_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceFigures:
    """How a gathering stream stands with one of its sources."""

    stream: str
    #: The domain that has it; empty = the gathering stream's own.
    domain: str
    #: Messages that it has not gathered yet, as last heard.
    lag: int
    #: Seconds since the source was last heard; None = never, or not now.
    heard_s: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamFigures:
    """What is in a stream."""

    messages: int
    bytes: int
    first: int
    last: int
    sources: tuple[SourceFigures, ...] = ()


class _Error(msgspec.Struct):
    code: int = 0
    description: str = ""


class _State(msgspec.Struct):
    messages: int
    bytes: int
    first_seq: int
    last_seq: int


class _SourceInfo(msgspec.Struct):
    name: str
    lag: int = 0
    #: Nanoseconds since it was heard; -1 = never.
    active: int = -1
    external: dict[str, str] | None = None


class StreamAnswer(msgspec.Struct):
    """What is read of an answer of JetStream's API."""

    error: _Error | None = None
    state: _State | None = None
    sources: list[_SourceInfo] = []


@dataclass(frozen=True, slots=True)
class Stored:
    """One message of a stream."""

    sequence: int
    subject: str
    data: bytes
    #: Messages behind it that this reader will get.
    pending: int
