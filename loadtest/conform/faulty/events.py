"""Cutting an engine's body into events, with the faults of those who do it by hand."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Final

from loadtest.conform.faulty.faults import Faults

__all__ = ["Event", "Splitter"]

_MANY: Final = 16
_BIG: Final = 65_536


@dataclass(slots=True)
class Event:
    """One event with data."""

    #: As it goes to the client, blank line included.
    data: bytes
    payload: bytes

    @property
    def done(self) -> bool:
        """It is `[DONE]`."""
        return self.payload == b"[DONE]"

    @property
    def json(self) -> dict[str, Any]:
        """Its payload; empty where it is no JSON object."""
        try:
            found = json.loads(self.payload)
        except ValueError:
            return {}
        return found if isinstance(found, dict) else {}

    @property
    def opens(self) -> bool:
        """It says more than who speaks."""
        for choice in self.json.get("choices") or []:
            delta = choice.get("delta") or {}
            if any(value for key, value in delta.items() if key != "role") or choice.get("finish_reason"):
                return True
        return False


class Splitter:
    """Holds what is no whole event yet."""

    def __init__(self, faults: Faults) -> None:
        self._faults = faults
        self._text = b""
        self._cr = b""
        #: Comments seen since the last look, as they would be passed on.
        self.comments: list[bytes] = []

    @property
    def half(self) -> bytes:
        """The half event at the end."""
        return self._text

    def take_half(self) -> bytes:
        """Return the half event and forget it."""
        half, self._text = self._text, b""
        return half

    def push(self, piece: bytes) -> list[Event]:
        """Take a read; return the events that are whole now."""
        on = self._faults.on
        if on("split-anywhere") and len(piece) == 1:
            return []
        if on("utf8-split"):
            piece = piece.decode(errors="ignore").encode()
        piece = self._cr + piece
        self._cr = b""
        if not on("crlf"):
            if piece.endswith(b"\r"):
                piece, self._cr = piece[:-1], b"\r"
            piece = piece.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        # Blocks: whole events, and at the end what is none yet.
        *blocks, self._text = (self._text + piece).split(b"\n\n")
        found = [event for block in blocks if (event := self._event(block)) is not None]
        return found[:_MANY] if on("many-in-one") else found

    def _event(self, block: bytes) -> Event | None:
        on = self._faults.on
        lines = [line for line in block.split(b"\n") if line]
        if on("comments"):
            lines = [line.removeprefix(b": ") if line.startswith(b": data:") else line for line in lines]
        if not on("ids-and-pings"):
            self.comments += [line for line in lines if line.startswith(b":")]
            lines = [line for line in lines if line.startswith((b"data:", b"event:"))]
        data = [line[5:].removeprefix(b" ") for line in lines if line.startswith(b"data:")]
        if on("several-data-lines") and len(data) > 1:
            del data[1:]
            lines = [b"data: " + data[0]]
        if not data:
            self.comments += [b"\n".join(lines) + b"\n\n"] if lines else []
            return None
        if on("big-event") and len(block) > _BIG:
            return None
        return Event(b"\n".join(lines) + b"\n\n", b"\n".join(data))
