"""Reading an event stream twice: as the standard says, and as openai-python does.

This reading is the suite's own, so that no gateway is judged by the parser that it was built with.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from loadtest.conform.http import Answer

__all__ = ["Event", "comments", "events", "lost_by_sdk", "payloads", "text_of", "told_error"]

_LINE: Final = re.compile(rb"(.*?)(?:\r\n|\n|\r)", re.DOTALL)
DONE: Final = b"[DONE]"


@dataclass(frozen=True, slots=True)
class Event:
    """One dispatched event: it had at least one data line and ended in a blank line."""

    data: bytes
    name: bytes
    id: bytes

    @property
    def json(self) -> Any:
        """Its data as JSON, or None where it is none."""
        try:
            return json.loads(self.data)
        except ValueError:
            return None


def events(body: bytes) -> list[Event]:
    """Return what the WHATWG grammar dispatches; an event without its blank line is none."""
    found: list[Event] = []
    data: list[bytes] = []
    name = last_id = b""
    for match in _LINE.finditer(body.removeprefix(b"\xef\xbb\xbf")):
        line = match[1]
        if not line:
            if data:
                found.append(Event(b"\n".join(data), name, last_id))
            data, name = [], b""
            continue
        field, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if field == b"data":
            data.append(value)
        elif field == b"event":
            name = value
        elif field == b"id":
            last_id = value
    return found


def comments(body: bytes) -> int:
    """Count comment lines."""
    return sum(match[1].startswith(b":") for match in _LINE.finditer(body))


def payloads(body: bytes) -> list[bytes]:
    """Return the data of every event, `[DONE]` included."""
    return [event.data for event in events(body)]


def lost_by_sdk(body: bytes) -> str:
    """Return where openai-python would lose the stream, or an empty string.

    Its decoder dispatches at every blank line if an id, a retry or an event name is pending or an id was ever seen,
    and then parses the data, empty or not, as JSON (read in openai-python 1.x to 3.x; openai/openai-python#2722).
    """
    data: list[bytes] = []
    name = last_id = b""
    retry = False
    for match in _LINE.finditer(body):
        line = match[1]
        if not line:
            if data or name or last_id or retry:
                text = b"\n".join(data)
                if text.startswith(DONE):
                    return ""
                try:
                    json.loads(text)
                except ValueError:
                    return f"blank line at byte {match.start()} dispatches {text[:40]!r}"
            data, name, retry = [], b"", False
            continue
        field, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if field == b"data":
            data.append(value)
        elif field == b"event":
            name = value
        elif field == b"id" and b"\0" not in value:
            last_id = value
        elif field == b"retry" and value.isdigit():
            retry = True
    return ""


def text_of(found: Sequence[bytes], index: int = 0) -> str:
    """Return the content of one choice, joined."""
    text = ""
    for data in found:
        chunk = _object(data)
        for choice in chunk.get("choices") or ():
            if choice.get("index", 0) == index:
                text += (choice.get("delta") or {}).get("content") or ""
    return text


def told_error(answer: Answer) -> str:
    """Return how a client is told in the stream that it failed, or an empty string: both SDKs raise on an `error`."""
    for event in events(answer.body):
        found = _object(event.data)
        if "error" in found:
            return f"error frame {event.data[:100].decode(errors='replace')}"
    return ""


def _object(data: bytes) -> dict[str, Any]:
    try:
        found = json.loads(data)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
