"""Request bodies: read, checked in vLLM's order and with vLLM's words, and made into `Generate`."""

from __future__ import annotations

import json
from typing import Any, Final

import msgspec

from simulator.errors import EngineError, invalid, too_long, unknown_model, validation
from simulator.fields import fault, field_faults, is_a
from simulator.settings import SimulatorSettings
from simulator.template import Prompt, chat_prompt, completion_prompts

__all__ = ["Body", "Generate", "Tool", "body_of", "chat", "completions", "model_of"]

Body = dict[str, Any]
_MAX_LOGPROBS: Final = 20
_MAX_N: Final = 16_384


class Tool(msgspec.Struct, frozen=True):
    """A forced call: the function's name, and the schema that its arguments follow."""

    name: str
    schema: Body
    #: A named tool ends with "stop", a required one with "tool_calls" (a09, a10).
    finish_reason: str


class Generate(msgspec.Struct, kw_only=True):
    """What a chat or completions request asks for, in one shape for both."""

    chat: bool
    model: str
    prompts: list[Prompt]
    stream: bool
    n: int = 1
    #: Of each choice; what is left of the context when the request names none.
    max_tokens: list[int]
    min_tokens: int = 0
    ignore_eos: bool = False
    seed: int | None = None
    stop: tuple[str, ...] = ()
    include_stop: bool = False
    #: Alternatives for each token; None asks for no log probabilities.
    logprobs: int | None = None
    usage: bool = False
    continuous_usage: bool = False
    echo: bool = False
    return_token_ids: bool = False
    #: The answer must follow this JSON schema.
    schema: Body | bool | None = None
    tool: Tool | None = None

    def finish_reason(self, reason: str) -> str:
        """Return `reason` as the answer's own: a forced call that came to its end has another word for "stop"."""
        return self.tool.finish_reason if self.tool is not None and reason == "stop" else reason


def body_of(raw: bytes, content_type: str) -> Body:
    """Return the JSON object of a request.

    Raises:
        EngineError: another content type (c03c, c03d), no body (c03b), no JSON (c03), no object (c03e).
    """
    if content_type.partition(";")[0].strip().lower() != "application/json":
        message = "1 validation error:\n  Unsupported Media Type: Only 'application/json' is allowed"
        raise EngineError(message, type_="Bad Request")
    if not raw:
        raise validation([fault("missing", "body", "Field required", None)])
    try:
        body = msgspec.json.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError):
        body = _explain(raw)
    if not isinstance(body, dict):
        message = "Input should be a valid dictionary or object to extract fields from"
        raise validation([fault("model_attributes_type", "body", message, body)])
    return body


def model_of(body: Body, settings: SimulatorSettings) -> str:
    """Return the model that answers.

    Raises:
        EngineError: 404, it is not served (c01_unknown_model).
    """
    model = body.get("model")
    if model is None:
        return settings.models[0]
    if model not in settings.models:
        raise unknown_model(str(model), settings.models)
    return str(model)


def chat(body: Body, settings: SimulatorSettings) -> Generate:
    """Return what a `/v1/chat/completions` body asks for.

    Raises:
        EngineError: the body is malformed, names an unknown model, or asks for what the engine refuses.
    """
    faults = field_faults(body)
    messages = body.get("messages")
    if "messages" not in body:
        faults.insert(0, fault("missing", "body.messages", "Field required", body))
    elif not isinstance(messages, list):
        faults.insert(0, fault("list_type", "body.messages", "Input should be a valid list", messages))
    if faults:
        raise validation(faults)
    _stream_options(body)
    tool_choice = body.get("tool_choice")
    if tool_choice not in (None, "none") and not body.get("tools"):
        raise invalid("When using `tool_choice`, `tools` must be set.", "tool_choice")
    continues = bool(body.get("continue_final_message"))
    if continues and body.get("add_generation_prompt", True) and "add_generation_prompt" in body:
        raise invalid("Cannot set both `continue_final_message` and `add_generation_prompt` to True.")
    model = model_of(body, settings)
    logprobs = (body.get("top_logprobs") or 0) if body.get("logprobs") else None
    tools = body.get("tools") or []
    prompt = chat_prompt(messages or [], tools, model=model, continues=continues)
    return _finish(body, settings, Generate(
        chat=True, model=model, prompts=[prompt], stream=False, max_tokens=[], logprobs=logprobs,
        echo=bool(body.get("echo")), tool=_tool(tool_choice, tools),
    ))  # fmt: skip


def completions(body: Body, settings: SimulatorSettings) -> Generate:
    """Return what a `/v1/completions` body asks for.

    Raises:
        EngineError: as `chat`.
    """
    if faults := field_faults(body):
        raise validation(faults)
    _stream_options(body)
    model = model_of(body, settings)
    prompts = completion_prompts(body.get("prompt"))
    logprobs = body.get("logprobs")
    if logprobs is not None and not is_a(logprobs, "int"):
        raise validation([fault("int_type", "body.logprobs", "Input should be a valid integer", logprobs)])
    return _finish(body, settings, Generate(
        chat=False, model=model, prompts=prompts, stream=False, max_tokens=[], logprobs=logprobs,
        echo=bool(body.get("echo")),
    ))  # fmt: skip


def _finish(body: Body, settings: SimulatorSettings, request: Generate) -> Generate:
    """Check the sampling parameters, in the engine's order, and fill in what both endpoints share."""
    limit = settings.max_model_len
    if any(prompt.tokens > limit for prompt in request.prompts):
        raise too_long(limit)
    # A chat's newer name wins; neither has a default (a08_stream_max_completion_tokens).
    asked = body.get("max_completion_tokens")
    asked = body.get("max_tokens") if asked is None else asked
    if asked is None and not request.chat:
        asked = 16
    if asked is not None and asked > limit:
        raise invalid(
            f"max_tokens={asked} cannot be greater than max_model_len={limit}. Please request fewer output tokens.",
            "max_tokens", asked,
        )  # fmt: skip
    n = body.get("n")
    request.n = 1 if n is None else int(n)
    if request.n < 1:
        raise invalid(f"n must be at least 1, got {request.n}.")
    if request.n > _MAX_N:
        raise invalid(f"n must be at most {_MAX_N}, got {request.n}.")
    temperature = body.get("temperature")
    if temperature is not None and temperature < 0:
        raise invalid(
            f"temperature must be non-negative, got {float(temperature)}.", "temperature", float(temperature)
        )
    top_p = body.get("top_p")
    if top_p is not None and not 0 < top_p <= 1:
        raise invalid(f"top_p must be in (0, 1], got {float(top_p)}.", "top_p", float(top_p))
    if asked is not None and asked < 1:
        raise invalid(f"max_tokens must be at least 1, got {asked}.", "max_tokens", asked)
    if request.logprobs is not None and request.logprobs > _MAX_LOGPROBS:
        asked_for = request.logprobs
        raise EngineError(
            f"Requested sample logprobs of {asked_for}, which is greater than max allowed: {_MAX_LOGPROBS} "
            f"(parameter=logprobs, value={asked_for})",
            param="logprobs",
        )
    room = [limit - prompt.tokens for prompt in request.prompts]
    request.max_tokens = [max(1, left if asked is None else min(asked, left)) for left in room]
    request.stream = bool(body.get("stream"))
    request.min_tokens = body.get("min_tokens") or 0
    request.ignore_eos = bool(body.get("ignore_eos"))
    request.seed = body.get("seed")
    request.stop = _stop(body.get("stop"))
    request.include_stop = bool(body.get("include_stop_str_in_output"))
    options = body.get("stream_options") or {}
    request.usage = bool(options.get("include_usage")) or settings.force_usage
    request.continuous_usage = bool(options.get("continuous_usage_stats") and request.usage) or settings.force_usage
    request.return_token_ids = bool(body.get("return_token_ids"))
    request.schema = _schema(body)
    return request


def _stop(given: object) -> tuple[str, ...]:
    """Return the stop strings of `stop`, one or several."""
    if isinstance(given, str):
        return (given,) if given else ()
    if given is None:
        return ()
    if not isinstance(given, list) or not all(isinstance(one, str) for one in given):
        raise validation([fault("string_type", "body.stop", "Input should be a valid string", given)])
    return tuple(one for one in given if one)


def _tool(choice: object, tools: list[Any]) -> Tool | None:
    """Return the call that `tool_choice` forces; "auto" forces none (a11_stream_tool_auto)."""
    functions = [one["function"] for one in tools if isinstance(one, dict) and isinstance(one.get("function"), dict)]
    if choice == "required" and functions:
        wanted, finish_reason = functions[0], "tool_calls"
    elif isinstance(choice, dict):
        name = (choice.get("function") or {}).get("name")
        named = [one for one in functions if one.get("name") == name]
        if not named:
            raise EngineError(
                f"The tool specified in `tool_choice` does not match any of the specified `tools`: {name}"
            )
        wanted, finish_reason = named[0], "stop"
    else:
        return None
    return Tool(str(wanted.get("name")), wanted.get("parameters") or {"type": "object"}, finish_reason)


def _schema(body: Body) -> Body | bool | None:
    format_ = body.get("response_format") or {}
    if format_.get("type") == "json_schema":
        schema: Body | bool | None = (format_.get("json_schema") or {}).get("schema")
        return schema
    if format_.get("type") == "json_object":
        return True
    structured: Body | bool | None = (body.get("structured_outputs") or {}).get("json")
    return structured


def _stream_options(body: Body) -> None:
    if body.get("stream_options") is not None and not body.get("stream"):
        raise invalid("Stream options can only be defined when `stream=True`.", "stream_options")


def _explain(raw: bytes) -> object:
    """Say where JSON breaks, in the words of Python's own parser (c03_bad_json)."""
    try:
        # Half a surrogate pair is JSON, and no text: it becomes "?".
        return msgspec.json.decode(json.dumps(json.loads(raw), ensure_ascii=False).encode("utf-8", "replace"))
    except json.JSONDecodeError as error:
        found = fault("json_invalid", f"body.{error.pos}", "JSON decode error", {})
        raise validation([{**found, "ctx": {"error": error.msg}}]) from None
    except (UnicodeDecodeError, msgspec.DecodeError):
        raise EngineError("There was an error parsing the body", type_="Bad Request") from None
