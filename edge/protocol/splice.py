"""Editing a JSON request by byte splice: what is not edited reaches the engine exactly as the client wrote it."""

from __future__ import annotations

import json
import re
from typing import Final

__all__ = ["append_item", "force_usage", "replace_model", "set_member", "top_level"]

_SPACE: Final = re.compile(rb"[ \t\r\n]*+")
#: Possessive, so that a string of many megabytes (an image in base64) costs neither time nor a stack of its length.
_STRING: Final = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"', re.DOTALL)
_PUNCTUATION: Final = re.compile(rb'["{}\[\]]')
_SCALAR: Final = re.compile(rb"[^,}\]\s]+")
_INCLUDE: Final = b'"include_usage":true'


def _skip_space(body: bytes, at: int) -> int:
    match = _SPACE.match(body, at)
    return match.end() if match else at


def _names(key: bytes, name: bytes) -> bool:
    """Say whether a key, with its quotes, is `name`, however it is written."""
    if b"\\" not in key:
        return key[1:-1] == name
    return bool(json.loads(key) == name.decode())


def _value_end(body: bytes, at: int) -> int:
    """Return where the JSON value that begins at `at` ends. The body is known to be valid JSON."""
    if body[at] == ord('"'):
        match = _STRING.match(body, at)
        return match.end() if match else len(body)
    if body[at] not in b"{[":
        match = _SCALAR.match(body, at)
        return match.end() if match else len(body)
    depth = 0
    while match := _PUNCTUATION.search(body, at):
        byte = body[match.start()]
        at = match.end()
        if byte == ord('"'):
            string = _STRING.match(body, match.start())
            at = string.end() if string else len(body)
        elif byte in b"{[":
            depth += 1
        else:
            depth -= 1
            if depth == 0:
                return at
    return len(body)


def top_level(body: bytes, name: bytes, start: int = 0) -> tuple[int, int] | None:
    """Return the byte span of the value of key `name` in the object that begins at `start`, or None.

    Where a key stands twice the last one counts, as it does for the parsers of the engines.

    Args:
        body: valid JSON whose value at `start` (white space allowed before it) is an object.
        name: the key without quotes, plain ASCII.
        start: where the object begins.
    """
    found: tuple[int, int] | None = None
    at = _skip_space(body, _skip_space(body, start) + 1)
    while at < len(body) and body[at] == ord('"'):
        key_end = _value_end(body, at)
        is_it = _names(body[at:key_end], name)
        value = _skip_space(body, _skip_space(body, key_end) + 1)
        end = _value_end(body, value)
        if is_it:
            found = (value, end)
        at = _skip_space(body, end)
        if at < len(body) and body[at] == ord(","):
            at = _skip_space(body, at + 1)
    return found


def _insert_first(body: bytes, opening: int, member: bytes) -> bytes:
    """Put `member` right behind the `{` at `opening`."""
    inside = _skip_space(body, opening + 1)
    comma = b"" if body[inside : inside + 1] == b"}" else b","
    return body[: opening + 1] + member + comma + body[opening + 1 :]


def force_usage(body: bytes) -> bytes:
    """Return the request with `stream_options.include_usage` set to true, everything else untouched."""
    opening = _skip_space(body, 0)
    options = top_level(body, b"stream_options")
    if options is None:
        return _insert_first(body, opening, b'"stream_options":{' + _INCLUDE + b"}")
    start, end = options
    if body[start] != ord("{"):  # null
        return body[:start] + b"{" + _INCLUDE + b"}" + body[end:]
    include = top_level(body, b"include_usage", start)
    if include is None:
        return _insert_first(body, start, _INCLUDE)
    return body[: include[0]] + b"true" + body[include[1] :]


def replace_model(body: bytes, model: bytes) -> bytes:
    """Return the request with its `model` replaced by `model`, a JSON string with its quotes."""
    span = top_level(body, b"model")
    if span is None:
        raise ValueError("the request has no model")
    return body[: span[0]] + model + body[span[1] :]


def set_member(body: bytes, name: bytes, value: bytes) -> bytes:
    """Return the request with its member `name` set to `value`, which is JSON."""
    span = top_level(body, name)
    if span is None:
        return _insert_first(body, _skip_space(body, 0), b'"%b":%b' % (name, value))
    return body[: span[0]] + value + body[span[1] :]


def append_item(body: bytes, name: bytes, item: bytes) -> bytes:
    """Return the request with `item`, which is JSON, as a further item of its array `name`.

    Raises:
        ValueError: there is no such array.
    """
    span = top_level(body, name)
    if span is None or body[span[0]] != ord("["):
        raise ValueError(f"the request has no array {name.decode()}")
    close = span[1] - 1
    empty = _skip_space(body, span[0] + 1) == close
    return body[:close] + (b"" if empty else b",") + item + body[close:]
