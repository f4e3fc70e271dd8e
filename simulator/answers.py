"""The JSON of answers that are not streamed, key by key (captures a00, b01-b09, k05)."""

from __future__ import annotations

from typing import Any

import msgspec

from simulator.frames import FINGERPRINT, Usage
from simulator.logprobs import chat_logprobs, prompt_logprobs, text_logprobs
from simulator.template import Prompt
from simulator.tokens import Token, pieces

__all__ = ["Finished", "chat_answer", "text_answer"]


class Finished(msgspec.Struct, kw_only=True):
    """One choice when its last token has come."""

    index: int
    prompt: Prompt
    text: str
    tokens: list[Token]
    reason: str
    stop_reason: str | None
    #: The call's id and name, `text` being its arguments.
    tool: tuple[str, str] | None = None


def chat_answer(
    id_: str, created: int, model: str, choices: list[Finished], usage: Usage, *,
    logprobs: int | None, ids: bool, metrics: dict[str, Any] | None, echo: bool,
) -> bytes:  # fmt: skip
    """Return the body of a chat answer (b01_nonstream, b03_nonstream_tool_required)."""
    listed = []
    for choice in choices:
        content = "" if choice.tool else (choice.prompt.so_far if echo else "") + choice.text
        message: dict[str, Any] = {"role": "assistant", "content": content}
        message |= {"refusal": None, "annotations": None, "audio": None, "function_call": None}
        if choice.tool:
            call_id, name = choice.tool
            function = {"name": name, "arguments": choice.text}
            message["tool_calls"] = [{"id": call_id, "type": "function", "function": function}]
        message["reasoning"] = None
        listed.append({
            "index": choice.index,
            "message": message,
            "logprobs": None if logprobs is None else {"content": chat_logprobs(choice.tokens, logprobs)},
            "finish_reason": choice.reason,
            "stop_reason": choice.stop_reason,
            "token_ids": [token.id for token in choice.tokens] if ids else None,
            "routed_experts": None,
        })  # fmt: skip
    return msgspec.json.encode({
        "id": id_, "object": "chat.completion", "created": created, "model": model, "choices": listed,
        "service_tier": None, "system_fingerprint": FINGERPRINT, "usage": _usage(usage), "prompt_logprobs": None,
        "prompt_token_ids": list(choices[0].prompt.ids) if ids else None, "prompt_text": None,
        "kv_transfer_params": None, "ec_transfer_params": None, "metrics": metrics,
    })  # fmt: skip


def text_answer(
    id_: str, created: int, model: str, choices: list[Finished], usage: Usage, *,
    logprobs: int | None, ids: bool, metrics: dict[str, Any] | None, echo: bool,
) -> bytes:  # fmt: skip
    """Return the body of a completions answer (b06_completions, b09 for `echo` and `logprobs`)."""
    listed = []
    for choice in choices:
        prompt_tokens = pieces(choice.prompt.so_far) if echo else []
        probabilities = None
        if logprobs is not None:
            tokens = [*prompt_tokens, *choice.tokens]
            probabilities = text_logprobs(tokens, logprobs, 0, first_of_prompt=echo)
        listed.append({
            "index": choice.index,
            "text": "".join(token.text for token in prompt_tokens) + choice.text,
            "logprobs": probabilities,
            "finish_reason": choice.reason,
            "stop_reason": choice.stop_reason,
            "token_ids": [token.id for token in choice.tokens] if ids else None,
            "prompt_logprobs": prompt_logprobs(prompt_tokens, logprobs) if echo and logprobs is not None else None,
            "prompt_token_ids": list(choice.prompt.ids) if ids else None,
            "routed_experts": None,
        })  # fmt: skip
    return msgspec.json.encode({
        "id": id_, "object": "text_completion", "created": created, "model": model, "choices": listed,
        "service_tier": None, "system_fingerprint": FINGERPRINT, "usage": _usage(usage),
        "kv_transfer_params": None, "ec_transfer_params": None, "metrics": metrics,
    })  # fmt: skip


def _usage(usage: Usage) -> dict[str, Any]:
    return {
        "prompt_tokens": usage.prompt, "total_tokens": usage.prompt + usage.completion,
        "completion_tokens": usage.completion, "prompt_tokens_details": None, "completion_tokens_details": None,
    }  # fmt: skip
