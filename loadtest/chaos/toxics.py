"""What can be wrong with a connection, each as a small value."""

from __future__ import annotations

import enum
from typing import Annotated, Final

import msgspec

__all__ = [
    "Bandwidth",
    "Direction",
    "HalfClose",
    "Latency",
    "Refuse",
    "Reset",
    "Slice",
    "Stall",
    "Toxic",
    "ToxicError",
    "parse",
]

_Ms = Annotated[float, msgspec.Meta(ge=0, le=3_600_000)]
_Bytes = Annotated[int, msgspec.Meta(ge=0)]
_Some = Annotated[int, msgspec.Meta(ge=1)]


class Direction(enum.StrEnum):
    """Which way a toxic works."""

    UP = "up"  #: client to server
    DOWN = "down"  #: server to client
    BOTH = "both"


class _Toxic(msgspec.Struct, frozen=True, kw_only=True, tag_field="toxic", forbid_unknown_fields=True):
    #: Which way it works.
    direction: Direction = Direction.BOTH

    def on(self, way: Direction) -> bool:
        """Whether it works on bytes that go this way."""
        return self.direction in (way, Direction.BOTH)


class Latency(_Toxic, frozen=True, kw_only=True, tag="latency"):
    """Every byte arrives so much later; order is kept."""

    ms: _Ms
    #: Up to so much more or less, at random for each read.
    jitter_ms: _Ms = 0.0


class Bandwidth(_Toxic, frozen=True, kw_only=True, tag="bandwidth"):
    """No more than so many bytes a second."""

    bytes_per_s: _Some


class Slice(_Toxic, frozen=True, kw_only=True, tag="slice"):
    """Bytes go out in segments of this size, with a pause between them."""

    bytes: _Some = 1
    gap_ms: _Ms = 0.0


class Stall(_Toxic, frozen=True, kw_only=True, tag="stall"):
    """After so many bytes of a connection nothing moves, and nothing is closed, until this toxic is taken away."""

    after_bytes: _Bytes = 0


class Reset(_Toxic, frozen=True, kw_only=True, tag="reset"):
    """After so many bytes of a connection both sides get a reset."""

    after_bytes: _Bytes = 0


class HalfClose(_Toxic, frozen=True, kw_only=True, tag="half-close"):
    """After so many bytes the receiver gets an end of stream; the other direction lives on."""

    after_bytes: _Bytes = 0


class Refuse(_Toxic, frozen=True, kw_only=True, tag="refuse"):
    """New connections are reset at once."""


Toxic = Latency | Bandwidth | Slice | Stall | Reset | HalfClose | Refuse

_KINDS: Final[dict[str, type[msgspec.Struct]]] = {
    "latency": Latency,
    "bandwidth": Bandwidth,
    "slice": Slice,
    "stall": Stall,
    "reset": Reset,
    "half-close": HalfClose,
    "refuse": Refuse,
}


class ToxicError(ValueError):
    """A toxic that nobody knows, or with a value out of its range."""


def parse(text: str) -> Toxic:
    """Read `kind[:key=value,key=value]`, such as `latency:ms=50` or `reset:after_bytes=4096,direction=up`.

    Raises:
        ToxicError: it cannot be read; the text says why.
    """
    kind, _, rest = text.partition(":")
    if kind not in _KINDS:
        raise ToxicError(f'no toxic "{kind}"; there are {", ".join(_KINDS)}')
    fields: dict[str, str] = {}
    for pair in filter(None, rest.split(",")):
        key, equals, value = pair.partition("=")
        if not equals:
            raise ToxicError(f'"{pair}" is no key=value; such as {kind}:after_bytes=4096')
        fields[key.strip()] = value.strip()
    try:
        found: Toxic = msgspec.convert({"toxic": kind, **fields}, Toxic, strict=False)
    except msgspec.ValidationError as error:
        raise ToxicError(f"{kind}: {error}") from error
    return found
