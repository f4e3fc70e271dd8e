"""JSON messages of a client, on sockets and data channels: read with errors that name the field, and their names."""

from __future__ import annotations

import re
from collections.abc import Container
from typing import Final, TypeVar

import msgspec

from edge.protocol.request import unreadable
from streamkit.wire.errors import Code, HeadraceError
from streamkit.wire.unreadable import UNREADABLE

__all__ = ["check_name", "check_start", "decoded", "malformed", "name_in"]

T = TypeVar("T")
_NAME: Final = re.compile(r"[!-~]{1,64}")
_SESSION: Final = re.compile(r"[!-~]{0,256}")
_SIM: Final = re.compile(r"[ -~]{0,4096}")


class _Named(msgspec.Struct, frozen=True):
    type: str = ""
    id: str = ""


def decoded(message: bytes, decoder: msgspec.json.Decoder[T], types: str) -> T:
    """Return what a message says.

    Args:
        message: JSON.
        decoder: of the messages that there are, tagged by `type`.
        types: their names, for people.

    Raises:
        HeadraceError: INVALID_REQUEST; names the field, or the byte where the JSON breaks.
    """
    try:
        return decoder.decode(message)
    except RecursionError:
        text = "The message is nested too deeply to be read."
        raise HeadraceError(Code.INVALID_REQUEST, text, param="message") from None
    except (msgspec.ValidationError, msgspec.DecodeError, UnicodeDecodeError) as exc:
        if str(exc).startswith("Invalid value ") and str(exc).endswith(" - at `$.type`"):
            text = f"`type`: there is no such message; there are {types}."
            raise HeadraceError(Code.INVALID_REQUEST, text, param="type") from None
        raise unreadable(exc, "message") from None


def check_name(name: str) -> None:
    """Hold the client's own name of a stream to its form.

    Raises:
        HeadraceError: INVALID_REQUEST.
    """
    if _NAME.fullmatch(name) is None:
        raise malformed("id", "1 to 64 visible ASCII characters")


def check_start(session: str, sim: str) -> None:
    """Hold what stands for `X-Headrace-Session` and `X-Sim` to the form of a header.

    Raises:
        HeadraceError: INVALID_REQUEST.
    """
    if _SESSION.fullmatch(session) is None:
        raise malformed("session", "at most 256 visible ASCII characters")
    if _SIM.fullmatch(sim) is None:
        raise malformed("sim", "at most 4096 printable ASCII characters")


def name_in(message: bytes, types: Container[str]) -> str:
    """Return the name of the stream that a refused message wanted to begin, or "" where there is none to be read."""
    try:
        said = msgspec.json.decode(message, type=_Named)
    except UNREADABLE:
        return ""
    return said.id if said.type in types and _NAME.fullmatch(said.id) is not None else ""


def malformed(field: str, what: str) -> HeadraceError:
    """Return the refusal of a field that must be something else."""
    return HeadraceError(Code.INVALID_REQUEST, f"`{field}` must be {what}.", param=field)
