"""The chat template: messages become one prompt text, and the part of the answer that exists already."""

from __future__ import annotations

import json
from typing import Any

import msgspec

from simulator import tokens
from simulator.errors import EngineError, validation
from simulator.text import topic_of

__all__ = ["Prompt", "chat_prompt", "completion_prompts"]


class Prompt(msgspec.Struct, frozen=True):
    """One prompt as the pseudo-model sees it."""

    #: The state key's text: everything but the part that is being continued.
    text: str
    #: What is being continued: the prefill of a chat, the whole prompt of a completion.
    so_far: str
    topic: str
    #: Ids of the whole prompt.
    ids: tuple[int, ...]

    @property
    def tokens(self) -> int:
        """How many tokens the prompt has."""
        return len(self.ids)


def chat_prompt(messages: list[Any], tools: list[Any], *, model: str, continues: bool) -> Prompt:
    """Return the prompt of a chat.

    Args:
        messages: as sent; any role is taken (c02d_bad_role).
        tools: as sent; they are part of the prompt.
        model: the name in the message for pictures.
        continues: `continue_final_message`: the last message is a prefill.

    Raises:
        EngineError: no message at all (c02c_empty_messages), or a part that is no text (c09_image_part).
    """
    if not messages:
        raise EngineError("Cannot apply chat template to an empty conversation. Provide at least one message.")
    turns = [_turn(message, model) for message in messages]
    question = next((text for role, text in reversed(turns) if role == "user"), "")
    so_far = turns.pop()[1] if continues else ""
    head = f"{tokens.IM_START}system\n{json.dumps(tools)}{tokens.IM_END}\n" if tools else ""
    body = "".join(f"{tokens.IM_START}{role}\n{text}{tokens.IM_END}\n" for role, text in turns)
    text = f"{head}{body}{tokens.IM_START}assistant\n"
    return Prompt(text, so_far, topic_of(question), tuple(tokens.encode(text + so_far)))


def completion_prompts(prompt: object) -> list[Prompt]:
    """Return the prompts of a completion: a text, several texts, a list of ids, or several such lists.

    The prompt itself is what is being continued, so a longer prompt goes on where the answer to a shorter one was.

    Raises:
        EngineError: it is none of these.
    """
    many: list[Any]
    ids = isinstance(prompt, list) and prompt and all(isinstance(one, int) for one in prompt)
    if ids or isinstance(prompt, str):
        many = [prompt]
    elif isinstance(prompt, list) and prompt:
        many = prompt
    else:
        raise validation([{"type": "missing", "loc": "body.prompt", "msg": "Field required", "input": str(prompt)}])
    prompts: list[Prompt] = []
    for one in many:
        if isinstance(one, str):
            prompts.append(Prompt("", one, "this", tuple(tokens.encode(one))))
        elif isinstance(one, list) and all(isinstance(number, int) for number in one):
            prompts.append(Prompt("", tokens.decode(one), "this", tuple(one)))
        else:
            fault = {"type": "string_type", "loc": "body.prompt", "msg": "Input should be a valid string"}
            raise validation([{**fault, "input": str(one)}])
    return prompts


def _turn(message: Any, model: str) -> tuple[str, str]:
    if not isinstance(message, dict):
        fault = {"type": "dict_type", "loc": "body.messages.0", "msg": "Input should be a valid dictionary"}
        raise validation([{**fault, "input": str(message)}])
    content = message.get("content")
    if isinstance(content, list):
        texts: list[str] = []
        for part in content:
            if isinstance(part, dict) and isinstance(part.get("text"), str):
                texts.append(part["text"])
            elif not isinstance(part, str):
                raise EngineError(f"{model} is not a multimodal model")
            else:
                texts.append(part)
        content = "\n".join(texts)
    calls = message.get("tool_calls")
    text = ("" if content is None else str(content)) + (json.dumps(calls) if calls else "")
    return str(message.get("role", "user")), text
