"""What an OpenAI request becomes for Ollama's own API, and what is refused by name."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from edge.protocol.ollama.request import translate
from streamkit.wire.backend import OllamaOptions
from streamkit.wire.errors import Code, HeadraceError

PICTURE = base64.b64encode(b"\x89PNG").decode()
NOTHING_SET = OllamaOptions()
HELLO = [{"role": "user", "content": "Hello"}]
TOOL = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}


def asked(body: dict[str, Any], *, chat: bool = True, defaults: OllamaOptions = NOTHING_SET) -> Any:
    given = {"model": "m", **({"messages": HELLO} if chat else {"prompt": "Once"}), **body}
    return translate(json.dumps(given).encode(), chat=chat, defaults=defaults)


def said(body: dict[str, Any], *, chat: bool = True, defaults: OllamaOptions = NOTHING_SET) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(asked(body, chat=chat, defaults=defaults).body)
    return found


def test_a_plain_chat():
    one = asked({"stream": True})
    assert (one.path, one.stream, one.usage) == (b"/api/chat", True, False)
    assert json.loads(one.body) == {"model": "m", "stream": True, "messages": HELLO}


def test_stream_is_said_because_ollama_streams_by_itself():
    assert said({})["stream"] is False


SAID = [
    ({"max_tokens": 9}, {"options": {"num_predict": 9}}),
    ({"max_completion_tokens": 9, "temperature": 0}, {"options": {"num_predict": 9, "temperature": 0}}),
    ({"top_p": 0.5, "seed": 7, "stop": "."}, {"options": {"top_p": 0.5, "seed": 7, "stop": ["."]}}),
    ({"stop": ["a", "b"]}, {"options": {"stop": ["a", "b"]}}),
    ({"presence_penalty": 1, "repetition_penalty": 1.1}, {"options": {"presence_penalty": 1, "repeat_penalty": 1.1}}),
    ({"options": {"mirostat": 1}}, {"options": {"mirostat": 1}}),
    ({"response_format": {"type": "text"}}, {}),
    ({"response_format": {"type": "json_object"}}, {"format": "json"}),
    (
        {"response_format": {"type": "json_schema", "json_schema": {"schema": {"type": "object"}}}},
        {"format": {"type": "object"}},
    ),
    ({"tools": [TOOL]}, {"tools": [TOOL]}),
    ({"tools": [TOOL], "tool_choice": "auto"}, {"tools": [TOOL]}),
    ({"tools": [TOOL], "tool_choice": "none"}, {}),
    ({"think": "high"}, {"think": "high"}),
    ({"reasoning_effort": "none"}, {"think": False}),
    # Nothing is asked for.
    ({"n": 1, "logprobs": False, "logit_bias": {}, "user": "u", "parallel_tool_calls": True, "seed": None}, {}),
]


@pytest.mark.parametrize(("body", "more"), SAID)
def test_fields_that_have_a_word(body, more):
    assert said(body) == {"model": "m", "stream": False, "messages": HELLO, **more}


REFUSED = [
    ({"n": 2}, "n"),
    ({"n": True}, "n"),
    ({"logprobs": True}, "logprobs"),
    ({"top_logprobs": 3}, "top_logprobs"),
    ({"logit_bias": {"5": 1}}, "logit_bias"),
    ({"tool_choice": "required"}, "tool_choice"),
    ({"tool_choice": {"type": "function", "function": {"name": "f"}}}, "tool_choice"),
    ({"parallel_tool_calls": False}, "parallel_tool_calls"),
    ({"tools": [{"type": "web_search"}]}, "tools[0].type"),
    ({"stream_options": {"continuous_usage_stats": True}}, "stream_options.continuous_usage_stats"),
    ({"response_format": {"type": "xml"}}, "response_format.type"),
    ({"response_format": {"type": "json_schema"}}, "response_format.json_schema.schema"),
    ({"temperature": "hot"}, "temperature"),
    ({"seed": 1.5}, "seed"),
    ({"seed": 1e300}, "seed"),
    ({"stop": [1]}, "stop"),
    ({"keep_alive": 0}, "keep_alive"),
    ({"num_ctx": 9}, "num_ctx"),
    ({"options": {"num_ctx": 1 << 20}}, "options.num_ctx"),
    ({"options": {"num_gpu": 0}}, "options.num_gpu"),
    ({"think": "maybe"}, "think"),
    ({"reasoning_effort": "minimal"}, "reasoning_effort"),
    ({"guided_regex": "a+"}, "guided_regex"),
    ({"messages": None}, "messages"),
    ({"messages": []}, "messages"),
    ({"messages": ["hi"]}, "messages[0]"),
    ({"messages": [{"role": "poet", "content": "hi"}]}, "messages[0].role"),
    ({"messages": [{"role": "user", "content": 5}]}, "messages[0].content"),
    ({"messages": [{"role": "user", "content": "a", "cache_control": {}}]}, "messages[0].cache_control"),
    ({"messages": [{"role": "user", "content": [{"type": "input_audio"}]}]}, "messages[0].content[0]"),
    (
        {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "http://x/p.png"}}]}]},
        "messages[0].content[0].image_url.url",
    ),
    (
        {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": "data:image/png;base64,%%"}]}]},
        "messages[0].content[0].image_url",
    ),
    ({"messages": [{"role": "tool", "content": "5", "tool_call_id": "x"}]}, "messages[0].tool_call_id"),
    (
        {"messages": [{"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": "[1]"}}]}]},
        "messages[0].tool_calls[0].function.arguments",
    ),
    (
        {"messages": [{"role": "assistant", "tool_calls": [{"type": "custom", "custom": {}}]}]},
        "messages[0].tool_calls[0].function",
    ),
]


@pytest.mark.parametrize(("body", "field"), REFUSED, ids=[field for _, field in REFUSED])
def test_what_has_no_word_is_refused_by_name(body, field):
    with pytest.raises(HeadraceError) as caught:
        asked(body)
    assert (caught.value.code, caught.value.param) == (Code.INVALID_REQUEST, field)
    assert f"`{field}`" in caught.value.message


@pytest.mark.parametrize(
    "body",
    [
        b'{"model":"m","messages":[{"rol\xa1":1}]}',
        b'{"model":"m","messages":[{"role":"user","content":"\\ud83d"}]}',
        b'{"model":"m","messages":' + b"[" * 50_000,
    ],
    ids=["half a character", "half a surrogate", "deep"],
)
def test_what_breaks_where_nobody_looked_before_is_refused_too(body):
    # A relay reads four fields; the fuzzer found that the rest may still be no text.
    with pytest.raises(HeadraceError) as caught:
        translate(body, chat=True, defaults=NOTHING_SET)
    assert caught.value.param == "body"


def test_pictures_tools_and_their_results():
    messages = [
        {"role": "developer", "content": "Be brief."},
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "What is"},
                {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PICTURE}"}},
                {"type": "text", "text": "this?"},
            ],
        },
        {
            "role": "assistant",
            "content": None,
            "refusal": None,
            "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"x": 1.0}'}}],
        },
        {"role": "tool", "tool_call_id": "c1", "content": "5"},
    ]
    body = asked({"messages": messages}).body
    assert json.loads(body)["messages"] == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "What is\nthis?", "images": [PICTURE]},
        {
            "role": "assistant",
            "content": "",
            "tool_calls": [{"id": "c1", "function": {"name": "f", "arguments": {"x": 1.0}}}],
        },
        {"role": "tool", "content": "5", "tool_name": "f", "tool_call_id": "c1"},
    ]
    # The client's own digits, not a re-encoding of them.
    assert b'{"x": 1.0}' in body


def test_the_operators_options():
    defaults = OllamaOptions(num_ctx=8192, keep_alive="10m")
    found = said({"max_tokens": 4}, defaults=defaults)
    assert (found["keep_alive"], found["options"]) == ("10m", {"num_ctx": 8192, "num_predict": 4})
    # Ollama reads a bare number as seconds, and a string without a unit not at all.
    assert said({}, defaults=OllamaOptions(keep_alive="-1"))["keep_alive"] == -1


def test_text_completions():
    one = asked({"stream": True, "suffix": "end", "max_tokens": 3, "echo": False, "best_of": 1}, chat=False)
    assert one.path == b"/api/generate"
    assert json.loads(one.body) == {
        "model": "m",
        "stream": True,
        "prompt": "Once",
        "suffix": "end",
        "options": {"num_predict": 3},
    }
    assert said({"prompt": ["Once"]}, chat=False)["prompt"] == "Once"


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"prompt": ["a", "b"]}, "prompt"),
        ({"prompt": [1, 2]}, "prompt"),
        ({"prompt": ""}, "prompt"),
        ({"echo": True}, "echo"),
        ({"logprobs": 0}, "logprobs"),
        ({"best_of": 3}, "best_of"),
        ({"tools": [TOOL]}, "tools"),
    ],
)
def test_text_completions_that_have_no_word(body, field):
    with pytest.raises(HeadraceError) as caught:
        asked(body, chat=False)
    assert caught.value.param == field
