"""A slow, plain reading of the event-stream grammar and of OpenAI chunks, to hold the fast one against."""

from __future__ import annotations

import json

from streamkit.wire.events import Batch, Mark


def lines_of(stream: bytes) -> list[tuple[bytes, bytes]]:
    """Return the whole lines as (text, line end), byte by byte; a last CR may be half of a CRLF and is not whole."""
    lines = []
    text = bytearray()
    at = 0
    while at < len(stream):
        byte = stream[at : at + 1]
        if byte == b"\n":
            lines.append((bytes(text), b"\n"))
            text.clear()
        elif byte == b"\r":
            if at + 1 == len(stream):
                break
            end = b"\r\n" if stream[at + 1 : at + 2] == b"\n" else b"\r"
            lines.append((bytes(text), end))
            text.clear()
            at += len(end) - 1
        else:
            text += byte
        at += 1
    return lines


def field_of(line: bytes) -> bytes:
    return line.split(b":", 1)[0]


def value_of(line: bytes) -> bytes:
    value = line.split(b":", 1)[1] if b":" in line else b""
    return value[1:] if value.startswith(b" ") else value


def events_of(stream: bytes) -> list[tuple[bytes, int]]:
    """Return (bytes that may pass, marks) of every whole event that has data."""
    events = []
    kept: list[tuple[bytes, bytes]] = []
    for text, end in lines_of(stream.removeprefix(b"\xef\xbb\xbf")):
        if text:
            if not text.startswith(b":") and field_of(text) not in (b"id", b"retry"):
                kept.append((text, end))
            continue
        if any(field_of(line) == b"data" for line, _ in kept):
            events.append((b"".join(line + stop for line, stop in kept) + end, marks_of([line for line, _ in kept])))
        kept = []
    return events


def marks_of(lines: list[bytes]) -> int:
    """Class an event by parsing its JSON."""
    data = b"\n".join(value_of(line) for line in lines if field_of(line) == b"data")
    if data.rstrip(b" \t") == b"[DONE]":
        return Mark.DONE
    try:
        chunk = json.loads(data)
    except ValueError:
        chunk = None
    if not isinstance(chunk, dict):
        return 0
    marks = 0
    choices = chunk.get("choices") or []
    for choice in choices:
        if choice.get("finish_reason"):
            marks |= Mark.FINISH
            if choice["finish_reason"] == "error":
                marks |= Mark.ERROR
    if not choices:
        named_error = any(field_of(line) == b"event" and value_of(line) == b"error" for line in lines)
        if isinstance(chunk.get("error"), dict | str) or named_error:
            marks |= Mark.ERROR
        elif isinstance(chunk.get("usage"), dict):
            marks |= Mark.USAGE
    return marks


def flat(batches: list[Batch]) -> list[tuple[bytes, int]]:
    """Return what came out, event by event, after checking that each batch agrees with itself."""
    out = []
    for batch in batches:
        events = batch.split()
        assert batch.count == len(events) > 0
        assert batch.data == b"".join(event.data for event in events)
        union = 0
        for event in events:
            union |= event.marks
        assert batch.marks == union
        assert bool(batch.marks) <= bool(batch.events), "a batch with marks lists its events"
        out += [(event.data, int(event.marks)) for event in events]
    return out
