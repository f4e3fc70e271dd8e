"""Reading requests of Ollama's own API into the shape that the generation core knows."""

from __future__ import annotations

import re
from typing import Any

from simulator import request as requests
from simulator.errors import EngineError
from simulator.ollama.voice import Native
from simulator.request import Body, Generate
from simulator.settings import SimulatorSettings

__all__ = ["keep_seconds", "model_name", "read_chat", "read_generate"]

_UNITS = {"ns": 1e-9, "us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_DURATION = re.compile(r"(-?\d+(?:\.\d+)?)(ns|us|ms|s|m|h)")
_CONTEXT = 4096


def model_name(body: Body, settings: SimulatorSettings) -> str:
    """Return the model that is meant: a name without a tag means the tag `latest`.

    Raises:
        EngineError: 400 without a name, 404 for one that was never pulled.
    """
    name = body.get("model")
    if not isinstance(name, str) or not name:
        raise EngineError("model is required")
    for known in settings.models:
        if known in (name, f"{name}:latest"):
            return known
    raise EngineError(f"model '{name}' not found", status=404)


def keep_seconds(value: object) -> float | None:
    """Return `keep_alive` in seconds; negative = for ever; None = not said.

    Raises:
        EngineError: it is no duration.
    """
    if value is None:
        return None
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    match = _DURATION.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise EngineError(f'time: missing unit in duration "{value}"')
    return float(match[1]) * _UNITS[match[2]]


def read_chat(body: Body, settings: SimulatorSettings) -> Generate:
    """Return what a `/api/chat` body asks for."""
    messages = body.get("messages")
    if not isinstance(messages, list):
        raise EngineError("json: cannot unmarshal into Go struct field ChatRequest.messages")
    plain = [{"role": one.get("role"), "content": one.get("content", "")} for one in messages]
    asked = requests.chat({**_sampling(body, settings), "messages": plain}, settings)
    return _native(asked, body, call=_call(body.get("tools") or [], messages))


def read_generate(body: Body, settings: SimulatorSettings) -> Generate:
    """Return what a `/api/generate` body asks for; without `num_predict` it goes on to the model's own end."""
    sampling = {"max_tokens": settings.max_model_len // 2, **_sampling(body, settings)}
    return _native(requests.completions({**sampling, "prompt": body.get("prompt")}, settings), body, call=None)


def _sampling(body: Body, settings: SimulatorSettings) -> Body:
    options = body.get("options") or {}
    out: dict[str, Any] = {"model": model_name(body, settings), "stream": body.get("stream") is not False}
    for theirs, ours in (("num_predict", "max_tokens"), ("seed", "seed"), ("stop", "stop")):
        if options.get(theirs) is not None:
            out[ours] = options[theirs]
    format_ = body.get("format")
    if format_ == "json":
        out["response_format"] = {"type": "json_object"}
    elif isinstance(format_, dict):
        out["response_format"] = {"type": "json_schema", "json_schema": {"name": "s", "schema": format_}}
    return out


def _native(asked: Generate, body: Body, *, call: dict[str, Any] | None) -> Native:
    fields = {name: getattr(asked, name) for name in Generate.__struct_fields__}
    native = Native(
        **fields,
        think=bool(body.get("think")),
        context=int((body.get("options") or {}).get("num_ctx") or _CONTEXT),
        keep_s=keep_seconds(body.get("keep_alive")),
    )
    if call is not None:
        native.call = str(call.get("name"))
        native.schema = call.get("parameters") or {"type": "object"}
    return native


def _call(tools: list[Any], messages: list[Any]) -> dict[str, Any] | None:
    """Return the function that the pseudo-model calls: the one that the last message, a user's, names."""
    last = messages[-1] if messages else {}
    said = str(last.get("content", "")) if last.get("role") == "user" else ""
    for tool in tools:
        function = tool.get("function") if isinstance(tool, dict) else None
        if isinstance(function, dict) and str(function.get("name")) in said:
            return dict(function)
    return None
