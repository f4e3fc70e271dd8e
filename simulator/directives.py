"""`X-Sim`: what one request asks of the simulator, and the grammar of that header.

    X-Sim    = clause *( ";" clause )
    clause   = [ selector SP ] key "=" value *( "," key "=" value )
    selector = "@" backend-name / "#" attempt-number

A clause with a selector applies only where it matches; later clauses override earlier ones.
Every key is told in docs/reference/x-sim.md.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

import msgspec

__all__ = ["Directives", "DirectivesError", "parse"]

_Count = Annotated[int, msgspec.Meta(ge=0)]
_Ms = Annotated[float, msgspec.Meta(ge=0)]


class Directives(msgspec.Struct, kw_only=True, frozen=True):
    """Behaviour of one request. Counts are tokens of each choice; None means "not asked for"."""

    seed: int | None = None
    #: Length of the answer in tokens, counted from its beginning, a prefill included.
    tokens: Annotated[int, msgspec.Meta(ge=1)] | None = None
    ttft_ms: _Ms | None = None
    itl_ms: _Ms | None = None
    #: Silence before anything, headers included.
    latency_ms: _Ms = 0.0
    #: Reset (RST) when the token after this many is due.
    die_after: _Count | None = None
    #: Close (FIN) without the last HTTP chunk when the token after this many is due.
    eof_after: _Count | None = None
    #: A clean end of the body, without finish chunk or `[DONE]`.
    end_after: _Count | None = None
    #: Silence for good after this many tokens; the connection stays open.
    stall_after: _Count | None = None
    #: Not one byte, until the client leaves.
    stall_headers: bool = False
    #: Refuse with this HTTP status and an engine-shaped error.
    status: Annotated[int, msgspec.Meta(ge=400, le=599)] | None = None
    #: In-band error frame and `[DONE]` after this many tokens.
    error_after: _Count | None = None
    #: In-band error frame and `[DONE]` right after the headers.
    error_first: bool = False
    #: The role chunk alone, then silence.
    role_only: bool = False
    #: The role chunk leaves with the headers, not with the first token.
    role_early: bool = False
    #: Keep-alive comments at this interval; 0 turns the server's own off.
    keepalive_ms: _Ms | None = None
    #: Pad each token to this many bytes.
    bytes: Annotated[int, msgspec.Meta(ge=1, le=64 * 1024 * 1024)] | None = None
    #: Each token is the moment of its sending: 19 digits of CLOCK_MONOTONIC in ns, and a space.
    stamp: bool = False
    #: One malformed event: JSON cut short, a line that is no field, or invalid UTF-8 ...
    garbage: Literal["json", "line", "utf8"] | None = None
    #: ... after this many tokens.
    garbage_after: _Count = 1
    crlf: bool = False
    #: No chunked framing; the end of the connection ends the body.
    close_delimited: bool = False
    #: Write in pieces of this many bytes, one per turn of the event loop.
    split: Annotated[int, msgspec.Meta(ge=1)] | None = None
    #: This many events in one HTTP chunk.
    merge: Annotated[int, msgspec.Meta(ge=1)] = 1
    no_done: bool = False
    no_finish: bool = False
    usage: Literal["on", "off", "continuous"] | None = None


KEYS: Final = Directives.__struct_fields__
_ABSENT: Final = Directives()


class DirectivesError(ValueError):
    """The header does not follow the grammar.

    Args:
        message: what is wrong, naming the clause and the position.
        clause: 1-based number of the clause.
        position: 0-based character in the header where the fault begins.
    """

    def __init__(self, message: str, *, clause: int, position: int) -> None:
        super().__init__(f"X-Sim clause {clause}, position {position}: {message}")
        self.clause = clause
        self.position = position


def parse(header: str, *, name: str, attempt: int = 1, base: Directives = _ABSENT) -> Directives:
    """Return what `header` asks of the simulator `name` on attempt number `attempt` (from 1).

    Every clause is checked, those for other backends and attempts too. `base` is what holds already, such as
    the server's fault.

    Raises:
        DirectivesError: the header is malformed; the message names the clause and the position.
    """
    chosen: dict[str, Any] = {}
    start = 0
    for number, clause in enumerate(header.split(";"), 1):
        applies, found = _clause(clause, number, start, name, attempt)
        if applies:
            chosen.update(found)
        start += len(clause) + 1
    return msgspec.structs.replace(base, **chosen) if chosen else base


def _clause(clause: str, number: int, start: int, name: str, attempt: int) -> tuple[bool, dict[str, Any]]:
    """Return whether one clause applies, and its values by key."""
    body = clause.lstrip()
    start += len(clause) - len(body)
    body = body.rstrip()
    applies = True
    if body[:1] in ("@", "#"):
        selector, _, rest = body.partition(" ")
        wanted = selector[1:]
        if not wanted:
            raise DirectivesError("a selector is @backend-name or #attempt", clause=number, position=start)
        if body[0] == "@":
            applies = wanted == name
        elif not wanted.isdecimal() or int(wanted) < 1:
            raise DirectivesError(f"#{wanted} is no attempt number", clause=number, position=start)
        else:
            applies = int(wanted) == attempt
        start += len(selector)
        body = rest.lstrip()
        if not body:
            raise DirectivesError("expected key=value after the selector", clause=number, position=start)
        start += 1 + len(rest) - len(body)
    elif not body:
        return False, {}
    found: dict[str, Any] = {}
    for pair in body.split(","):
        key, equals, value = pair.partition("=")
        position = start + len(pair) - len(pair.lstrip())
        key, value = key.strip(), value.strip()
        if not equals:
            raise DirectivesError(f"expected key=value, found {pair.strip()!r}", clause=number, position=position)
        if key not in KEYS:
            raise DirectivesError(f"unknown key {key!r}", clause=number, position=position)
        try:
            found[key] = getattr(msgspec.convert({key: value}, Directives, strict=False), key)
        except msgspec.ValidationError as error:
            raise DirectivesError(f"{key}={value}: {error}", clause=number, position=position) from None
        start += len(pair) + 1
    return applies, found
