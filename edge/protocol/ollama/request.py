"""An OpenAI request as Ollama's own API takes it; what cannot be said there is refused by name."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from edge.protocol.ollama.messages import messages_of, refuse
from edge.protocol.request import decoded
from streamkit.wire.backend import OllamaOptions

__all__ = ["Asked", "translate"]

_NUMBERS: Final = {"temperature", "top_p", "presence_penalty", "frequency_penalty", "min_p", "typical_p"}
_INTEGERS: Final = {"seed", "top_k", "repeat_last_n"}
#: What a client may set in `options`: how to sample. Anything else there costs memory or speed of other users too.
_SAMPLING: Final = frozenset(
    {*_NUMBERS, *_INTEGERS, "num_predict", "repeat_penalty", "stop", "num_keep", "mirostat", "mirostat_tau"}
    | {"mirostat_eta", "penalize_newline"}
)
#: Read elsewhere, or without any effect on the answer's text.
_IDLE: Final = frozenset(
    {"model", "messages", "prompt", "stream", "user", "metadata", "store", "service_tier", "safety_identifier"}
    | {"prompt_cache_key"}
)
#: Values that ask for nothing; JSON true is not 1 here.
_NEUTRAL: Final[dict[str, tuple[Any, ...]]] = {
    "n": (1,),
    "best_of": (1,),
    "echo": (False,),
    "logit_bias": ({},),
    "top_logprobs": (0,),
    "parallel_tool_calls": (True,),
    "modalities": (["text"],),
    "functions": ([],),
    "function_call": ("none", "auto"),
}
_MAX_WHOLE: Final = 1 << 63
_OPERATOR: Final = {"keep_alive": "ollama.keep_alive", "num_ctx": "ollama.num_ctx"}
_EFFORTS: Final[dict[str, bool | str]] = {"none": False, "low": "low", "medium": "medium", "high": "high"}


class Asked(msgspec.Struct, frozen=True):
    """One request in Ollama's words, and what must be remembered for its answer."""

    path: bytes
    body: bytes
    chat: bool
    stream: bool
    #: The client, or the edge on its behalf, wants the usage chunk.
    usage: bool


def translate(body: bytes, *, chat: bool, defaults: OllamaOptions) -> Asked:
    """Return what to send to `/api/chat` or `/api/generate`.

    Args:
        body: an OpenAI chat or text completion request, valid JSON.
        chat: which of the two.
        defaults: what the operator has set for this backend.

    Raises:
        HeadraceError: INVALID_REQUEST; the field at fault is named.
    """
    # The whole of it is read here for the first time, what nobody decides by included.
    given = decoded(body, dict[str, Any])
    out: dict[str, Any] = {"model": given["model"], "stream": bool(given.get("stream"))}
    options: dict[str, Any] = {"num_ctx": defaults.num_ctx} if defaults.num_ctx else {}
    if defaults.keep_alive:
        # Without a unit it is seconds, which Ollama wants as a number.
        plain = defaults.keep_alive.lstrip("-").isdecimal()
        out["keep_alive"] = int(defaults.keep_alive) if plain else defaults.keep_alive
    if chat:
        out["messages"] = messages_of(given.get("messages"))
    else:
        out["prompt"] = _prompt(given.get("prompt"))
    usage = False
    for name, value in given.items():
        if value is None or name in _IDLE or _asks_nothing(name, value, chat=chat):
            continue
        if name == "stream_options":
            usage = _stream_options(value)
        elif name in _NUMBERS or name in _INTEGERS:
            options[name] = _number(name, value, whole=name in _INTEGERS)
        elif name in ("max_tokens", "max_completion_tokens"):
            options["num_predict"] = _number(name, value, whole=True)
        elif name == "repetition_penalty":
            options["repeat_penalty"] = _number(name, value, whole=False)
        elif name == "stop":
            options["stop"] = _stop(value)
        elif name == "options":
            options.update(_options(value))
        elif name == "think":
            out["think"] = _think(value)
        elif name == "reasoning_effort":
            out["think"] = _effort(value)
        elif chat and name == "response_format":
            _format(out, value)
        elif chat and name == "tools":
            out["tools"] = _tools(value)
        elif chat and name == "tool_choice":
            _tool_choice(value)
        elif not chat and name in ("suffix", "raw"):
            out[name] = value
        elif name in _OPERATOR:
            raise refuse(name, f"is set by the operator of this backend ({_OPERATOR[name]}), not by a request")
        else:
            raise refuse(name, "cannot be expressed in Ollama's own API; leave it out")
    if given.get("tool_choice") == "none":
        out.pop("tools", None)
    if options:
        out["options"] = options
    path = b"/api/chat" if chat else b"/api/generate"
    return Asked(path, msgspec.json.encode(out), chat, out["stream"], usage)


def _asks_nothing(name: str, value: object, *, chat: bool) -> bool:
    if name == "logprobs":
        return chat and value is False
    return any(type(value) is type(neutral) and value == neutral for neutral in _NEUTRAL.get(name, ()))


def _prompt(prompt: object) -> str:
    if isinstance(prompt, list) and len(prompt) == 1:
        prompt = prompt[0]
    if not isinstance(prompt, str):
        raise refuse("prompt", "must be one string; Ollama takes no token ids and no several prompts")
    if not prompt:
        # Ollama would take it for an order to load the model.
        raise refuse("prompt", "must not be empty")
    return prompt


def _number(name: str, value: object, *, whole: bool) -> int | float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise refuse(name, "must be a number")
    if whole and not (abs(value) < _MAX_WHOLE and float(value).is_integer()):
        raise refuse(name, "must be a whole number of at most 63 bits")
    return int(value) if whole else value


def _stop(value: object) -> list[str]:
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise refuse("stop", "must be a string or a list of strings")
    return list(texts)


def _options(value: object) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise refuse("options", "must be an object")
    for name in value:
        if name not in _SAMPLING:
            why = "is not for a request to set: it would load the model anew, for everybody"
            raise refuse(f"options.{name}", why)
    return value


def _think(value: object) -> bool | str:
    if isinstance(value, bool) or (isinstance(value, str) and value in ("low", "medium", "high")):
        return value
    raise refuse("think", "must be true, false, low, medium or high")


def _effort(value: object) -> bool | str:
    effort = _EFFORTS.get(value) if isinstance(value, str) else None
    if effort is None:
        raise refuse("reasoning_effort", f"must be one of {', '.join(_EFFORTS)}")
    return effort


def _format(out: dict[str, Any], value: object) -> None:
    kind = value.get("type") if isinstance(value, dict) else None
    if kind == "json_object":
        out["format"] = "json"
    elif kind == "json_schema" and isinstance(value, dict):
        schema = (
            (value.get("json_schema") or {}).get("schema") if isinstance(value.get("json_schema"), dict) else None
        )
        if not isinstance(schema, dict):
            raise refuse("response_format.json_schema.schema", "is required, a JSON schema")
        out["format"] = schema
    elif kind != "text":
        raise refuse("response_format.type", "must be text, json_object or json_schema")


def _tools(value: object) -> list[Any]:
    if not isinstance(value, list):
        raise refuse("tools", "must be a list")
    for index, tool in enumerate(value):
        if not isinstance(tool, dict) or tool.get("type") != "function":
            raise refuse(f"tools[{index}].type", "must be function; Ollama knows no other tools")
    return value


def _tool_choice(value: object) -> None:
    if value not in ("auto", "none"):
        raise refuse("tool_choice", "must be auto or none: Ollama cannot be made to call a tool")


def _stream_options(value: object) -> bool:
    options = value if isinstance(value, dict) else {}
    if options.get("continuous_usage_stats"):
        raise refuse("stream_options.continuous_usage_stats", "cannot be expressed in Ollama's own API")
    return bool(options.get("include_usage"))
