"""What a viewer of an avatar says: one JSON object a message, on a data channel or a WebSocket (docs/reference)."""

from __future__ import annotations

from typing import Annotated, Final

import msgspec

from edge.protocol.messages import check_name, check_start, decoded, malformed, name_in

__all__ = ["Cancel", "ChatStart", "Interrupt", "Latency", "Ping", "Say", "Verb", "name_of", "read"]

_TYPES: Final = "chat.start, cancel, say, interrupt, latency and ping"
MAX_SAY_CHARS: Final = 16_000

_Name = Annotated[str, msgspec.Meta(max_length=64)]


class _Verb(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="type"):
    pass


class ChatStart(_Verb, frozen=True, kw_only=True, tag="chat.start"):
    """Begin a chat stream, whose answer the avatar speaks."""

    #: The viewer's name for the stream, 1-64 visible ASCII characters.
    id: _Name
    #: The OpenAI request, byte for byte as the viewer wrote it.
    request: msgspec.Raw
    #: False = the answer is only written.
    speak: bool = True
    #: As `X-Headrace-Priority`.
    priority: Annotated[int, msgspec.Meta(ge=1, le=9)] | None = None
    #: As `X-Headrace-Session`.
    session: str = ""
    #: As `X-Sim`, for simulators only.
    sim: str = ""


class Cancel(_Verb, frozen=True, kw_only=True, tag="cancel"):
    """Stop a chat stream; what it has had spoken goes on."""

    id: _Name


class Say(_Verb, frozen=True, kw_only=True, tag="say"):
    """Speak a text after what is being spoken."""

    text: Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_SAY_CHARS)]
    #: Comes back with each of its sentences.
    id: _Name = ""


class Interrupt(_Verb, frozen=True, kw_only=True, tag="interrupt"):
    """Be quiet, now: drop all speech, and stop the chat streams that are spoken."""


class Latency(_Verb, frozen=True, kw_only=True, tag="latency"):
    """Tell where the time of each frame went, so often; 0 = no more."""

    every_ms: Annotated[int, msgspec.Meta(ge=0, le=10_000)]


class Ping(_Verb, frozen=True, kw_only=True, tag="ping"):
    """Say that somebody is there."""

    #: Comes back in the `pong`.
    t: float | None = None


Verb = ChatStart | Cancel | Say | Interrupt | Latency | Ping
_DECODER: Final[msgspec.json.Decoder[Verb]] = msgspec.json.Decoder(Verb)
_SHORTEST_MS: Final = 100


def read(message: bytes) -> Verb:
    """Return what a message says.

    Raises:
        HeadraceError: INVALID_REQUEST; names the field, or the byte where the JSON breaks.
    """
    said = decoded(message, _DECODER, _TYPES)
    if isinstance(said, ChatStart | Cancel):
        check_name(said.id)
    if isinstance(said, ChatStart):
        check_start(said.session, said.sim)
    if isinstance(said, Latency) and 0 < said.every_ms < _SHORTEST_MS:
        raise malformed("every_ms", f"0, or {_SHORTEST_MS} to 10000")
    return said


def name_of(message: bytes) -> str:
    """Return the name of the stream that a refused message wanted to begin, or "" where there is none to be read."""
    return name_in(message, ("chat.start",))
