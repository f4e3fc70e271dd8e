"""Whatever bytes a model's files hold: a plan, or one line that says why not."""

from __future__ import annotations

import io
import json

from hypothesis import given
from hypothesis import strategies as st

from core_gpu.planner.config_json import parse_config
from core_gpu.planner.gguf import parse_gguf
from core_gpu.planner.table import resolve
from core_gpu.planner.units import PlanError
from tests.support.gguf import Gguf, of_model

WHOLE = of_model(resolve("qwen2.5-0.5b").geometry, "q4_k_m")
KEYS = st.sampled_from([
    "general.architecture", "llama.block_count", "llama.embedding_length", "llama.attention.head_count",
    "llama.feed_forward_length", "llama.attention.head_count_kv", "tokenizer.ggml.tokens", "x",
])  # fmt: skip
ENTRIES = st.lists(st.tuples(KEYS, st.integers(0, 14), st.binary(max_size=40)), max_size=6)
TENSORS = st.lists(
    st.tuples(st.sampled_from(["token_embd.weight", "output.weight", "t"]),
              st.lists(st.integers(0, 2**63), max_size=5).map(tuple), st.integers(0, 45)),
    max_size=4,
)  # fmt: skip


def read(data):
    return outcome(lambda: parse_gguf(io.BytesIO(data), "f"))


def outcome(parse):
    refusal = None
    try:
        return parse()
    except PlanError as error:
        refusal = str(error)
    assert "\n" not in refusal
    return None


@given(st.binary(max_size=200))
def test_any_bytes(data):
    read(data)
    read(b"GGUF\x03\x00\x00\x00" + data)


@given(ENTRIES, TENSORS)
def test_any_keys_and_tensors(entries, tensors):
    read(Gguf(entries, tensors).header())


@given(st.integers(0, len(WHOLE) - 1), st.binary(min_size=1, max_size=8))
def test_a_good_header_with_a_few_bytes_changed(at, change):
    read(WHOLE[:at] + change + WHOLE[at + len(change) :])


@given(st.integers(0, len(WHOLE) - 1))
def test_a_header_cut_short_is_never_a_model(at):
    assert read(WHOLE[:at]) is None


NUMBERS = st.one_of(st.integers(-5, 2**70), st.none(), st.text(max_size=3), st.floats(), st.booleans())


@given(
    st.dictionaries(
        st.sampled_from([
            "num_hidden_layers", "hidden_size", "num_attention_heads", "num_key_value_heads", "head_dim",
            "vocab_size", "intermediate_size", "sliding_window", "sliding_window_pattern", "layer_types",
            "num_experts",
        ]),
        NUMBERS,
    ),
    st.sampled_from(["llama", "qwen2", "gemma3_text", "qwen3_moe", "other"]),
)  # fmt: skip
def test_any_config(config, family):
    outcome(lambda: parse_config(json.dumps({**config, "model_type": family}).encode(), "c"))
