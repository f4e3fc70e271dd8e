"""What a client says on a WebSocket: one JSON object a message, with errors that name the field (docs/reference)."""

from __future__ import annotations

from typing import Annotated, Final, Literal

import msgspec

from edge.protocol.messages import check_name, check_start, decoded, name_in

__all__ = ["Cancel", "ClientMessage", "Credit", "Resume", "Start", "name_of", "read"]

_TYPES: Final = "start, cancel, credit and resume"

CreditBytes = Annotated[int, msgspec.Meta(ge=1, le=1 << 40)]


class _Message(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="type"):
    #: The client's name for the stream, 1-64 visible ASCII characters.
    id: str


class Start(_Message, frozen=True, kw_only=True, tag="start"):
    """Begin a stream."""

    operation: Literal["chat", "text_completion"]
    #: The OpenAI request, byte for byte as the client wrote it.
    request: msgspec.Raw
    #: Bytes of events that may come before more credit is given; None = the socket's own flow control is enough.
    credit: CreditBytes | None = None
    #: As `X-Headrace-Resume`: seconds for which the stream waits for a reader that was lost.
    resume: Annotated[int, msgspec.Meta(ge=1, le=86_400)] | None = None
    #: As `X-Headrace-Priority`.
    priority: Annotated[int, msgspec.Meta(ge=1, le=9)] | None = None
    #: As `X-Headrace-Session`.
    session: str = ""
    #: As `X-Sim`, for simulators only.
    sim: str = ""


class Cancel(_Message, frozen=True, kw_only=True, tag="cancel"):
    """Stop a stream; what is not sent is dropped."""


class Credit(_Message, frozen=True, kw_only=True, tag="credit"):
    """Let so many more bytes of a stream's events come."""

    bytes: CreditBytes


class Resume(_Message, frozen=True, kw_only=True, tag="resume"):
    """Read a resumable stream on, under a name of this socket."""

    #: As `started` or `X-Headrace-Stream` told it.
    stream: Annotated[str, msgspec.Meta(max_length=256)]
    #: `seq` of the last event that was received; 0 = from the beginning.
    after: Annotated[int, msgspec.Meta(ge=0, le=1 << 53)] = 0
    credit: CreditBytes | None = None


ClientMessage = Start | Cancel | Credit | Resume
_DECODER: Final[msgspec.json.Decoder[ClientMessage]] = msgspec.json.Decoder(ClientMessage)


def read(message: bytes) -> ClientMessage:
    """Return what a message says.

    Raises:
        HeadraceError: INVALID_REQUEST; names the field, or the byte where the JSON breaks.
    """
    said = decoded(message, _DECODER, _TYPES)
    check_name(said.id)
    if isinstance(said, Start):
        check_start(said.session, said.sim)
    return said


def name_of(message: bytes) -> str:
    """Return the name of the stream that a refused message wanted to begin, or "" where there is none to be read."""
    return name_in(message, ("start", "resume"))
