"""OpenAI's chat messages as Ollama's: text, pictures, tool calls and their results."""

from __future__ import annotations

import binascii
import re
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from streamkit.wire.errors import Code, HeadraceError
from streamkit.wire.unreadable import UNREADABLE

__all__ = ["messages_of", "refuse"]

_ROLES: Final = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "assistant": "assistant",
    "tool": "tool",
}
_DATA_URL: Final = re.compile(r"data:[^,;]*(?:;[^,;]*)*;base64,", re.IGNORECASE)
#: Members of a message that mean nothing to the model; `refusal` and `audio` are sent back by SDKs as null.
_IDLE: Final = frozenset({"role", "content", "name", "tool_calls", "tool_call_id", "reasoning", "reasoning_content"})


def refuse(field: str, why: str) -> HeadraceError:
    """Return the refusal of one field, by its place in the client's request."""
    return HeadraceError(Code.INVALID_REQUEST, f"`{field}` {why}.", param=field)


def messages_of(given: object) -> list[dict[str, Any]]:
    """Return `messages` as `/api/chat` takes them.

    Raises:
        HeadraceError: INVALID_REQUEST; names the place, `messages[2].content[0].image_url.url` for example.
    """
    if not isinstance(given, list):
        raise refuse("messages", "is required, a list of messages")
    if not given:
        # Ollama would take it for an order to load or unload the model, and answer with nothing.
        raise refuse("messages", "must hold at least one message")
    out: list[dict[str, Any]] = []
    #: Names of the functions called so far, by call id: Ollama wants a result to name its tool.
    names: dict[str, str] = {}
    for index, message in enumerate(given):
        out.append(_message(message, f"messages[{index}]", names))
    return out


def _message(message: object, at: str, names: dict[str, str]) -> dict[str, Any]:
    if not isinstance(message, Mapping):
        raise refuse(at, "must be an object")
    role = message.get("role")
    if not isinstance(role, str) or role not in _ROLES:
        raise refuse(f"{at}.role", f"must be one of {', '.join(_ROLES)}")
    for name, value in message.items():
        if name not in _IDLE and value is not None:
            raise refuse(f"{at}.{name}", "cannot be expressed in Ollama's own API; leave it out")
    text, images = _content(message.get("content"), f"{at}.content")
    out: dict[str, Any] = {"role": _ROLES[role], "content": text}
    if images:
        out["images"] = images
    thinking = message.get("reasoning") or message.get("reasoning_content")
    if thinking:
        out["thinking"] = thinking
    calls = message.get("tool_calls")
    if calls:
        out["tool_calls"] = _calls(calls, f"{at}.tool_calls", names)
    if role == "tool":
        call_id = message.get("tool_call_id")
        name = message.get("name") or (names.get(call_id) if isinstance(call_id, str) else None)
        if not name:
            raise refuse(f"{at}.tool_call_id", "must name a call of an earlier assistant message")
        out["tool_name"] = name
        out["tool_call_id"] = call_id
    return out


def _content(content: object, at: str) -> tuple[str, list[str]]:
    """Return text and pictures, in base64."""
    if content is None:
        return "", []
    if isinstance(content, str):
        return content, []
    if not isinstance(content, list):
        raise refuse(at, "must be a string or a list of parts")
    texts: list[str] = []
    images: list[str] = []
    for index, part in enumerate(content):
        place = f"{at}[{index}]"
        kind = part.get("type") if isinstance(part, Mapping) else None
        if kind == "text" and isinstance(part.get("text"), str):
            texts.append(part["text"])
        elif kind == "image_url":
            images.append(_image(part.get("image_url"), f"{place}.image_url"))
        else:
            raise refuse(place, "must be a part of type text or image_url; Ollama takes no others")
    return "\n".join(texts), images


def _image(image: object, at: str) -> str:
    url = image.get("url") if isinstance(image, Mapping) else image
    if isinstance(image, Mapping) and image.get("detail") not in (None, "auto"):
        raise refuse(f"{at}.detail", "cannot be expressed in Ollama's own API; leave it out")
    at = f"{at}.url" if isinstance(image, Mapping) else at
    head = _DATA_URL.match(url) if isinstance(url, str) else None
    if head is None or not isinstance(url, str):
        raise refuse(at, "must be a data: URL in base64; Ollama does not fetch pictures")
    data = url[head.end() :]
    try:
        binascii.a2b_base64(data, strict_mode=True)
    except (binascii.Error, ValueError):
        raise refuse(at, "is not valid base64") from None
    return data


def _calls(calls: object, at: str, names: dict[str, str]) -> list[dict[str, Any]]:
    if not isinstance(calls, list):
        raise refuse(at, "must be a list of calls")
    out: list[dict[str, Any]] = []
    for index, call in enumerate(calls):
        place = f"{at}[{index}]"
        function = call.get("function") if isinstance(call, Mapping) else None
        if not isinstance(call, Mapping) or not isinstance(function, Mapping):
            raise refuse(f"{place}.function", "is required; Ollama knows no other calls")
        name = function.get("name")
        if not isinstance(name, str) or not name:
            raise refuse(f"{place}.function.name", "must be a name")
        given = {"name": name, "arguments": _arguments(function.get("arguments"), f"{place}.function.arguments")}
        made: dict[str, Any] = {"function": given}
        if isinstance(call.get("id"), str):
            names[call["id"]] = name
            made["id"] = call["id"]
        out.append(made)
    return out


def _arguments(text: object, at: str) -> msgspec.Raw:
    """Return a call's arguments, a JSON object in a string, as the object that Ollama wants, byte for byte."""
    if not isinstance(text, str):
        raise refuse(at, "must be a string that holds a JSON object")
    raw = text.strip() or "{}"
    try:
        value = msgspec.json.decode(raw)
    except UNREADABLE:
        raise refuse(at, "must be a string that holds a JSON object, and is not valid JSON") from None
    if not isinstance(value, dict):
        raise refuse(at, "must be a string that holds a JSON object")
    return msgspec.Raw(raw.encode())
