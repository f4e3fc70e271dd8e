"""A model's own files: config.json and the header of a GGUF."""

from __future__ import annotations

import io
import json

import pytest

from core_gpu.planner.config_json import parse_config
from core_gpu.planner.geometry import parameters
from core_gpu.planner.gguf import parse_gguf
from core_gpu.planner.quants import TYPES, weights_bytes
from core_gpu.planner.table import resolve
from core_gpu.planner.units import PlanError
from launch.cli import main
from tests.support.gguf import Gguf, of_model

LLAMA = {
    "model_type": "llama", "num_hidden_layers": 32, "hidden_size": 4096, "num_attention_heads": 32,
    "num_key_value_heads": 8, "intermediate_size": 14336, "vocab_size": 128256, "tie_word_embeddings": False,
    "max_position_embeddings": 131072,
}  # fmt: skip


def read(config):
    return parse_config(json.dumps(config).encode(), "config.json")


def test_a_config_is_the_shape_of_the_table():
    found = read(LLAMA)
    assert parameters(found) == 8_030_261_248
    assert (found.kv_heads, found.head_dim, found.max_ctx) == (8, 128, 131_072)


def test_a_config_without_grouped_queries_has_as_many_heads():
    assert read({key: value for key, value in LLAMA.items() if key != "num_key_value_heads"}).kv_heads == 32


def test_a_vision_models_text_part_is_what_counts():
    found = read(
        {"model_type": "gemma3", "text_config": {**LLAMA, "model_type": "gemma3_text", "sliding_window": 512}}
    )
    assert (found.window, found.window_layers) == (512, 27)
    assert read({**LLAMA, "model_type": "qwen2", "use_sliding_window": False, "sliding_window": 4096}).window == 0
    layered = {**LLAMA, "sliding_window": 64, "layer_types": ["sliding_attention"] * 3 + ["full_attention"] * 29}
    assert read(layered).window_layers == 3


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({**LLAMA, "model_type": "bert"}, "model_type: 'bert' is not a family that can be planned"),
        ({**LLAMA, "kv_lora_rank": 512}, "kv_lora_rank: multi-head latent attention"),
        ({**LLAMA, "hidden_size": "wide"}, "hidden_size: expected a whole number, got 'wide'"),
        ({**LLAMA, "hidden_size": None}, "hidden_size: required, but missing"),
        ({**LLAMA, "num_hidden_layers": 0}, "layers: expected 1 to 1,024, got 0"),
        ([], "expected a JSON object"),
    ],
)
def test_a_config_that_cannot_be_used_says_which_key(config, message):
    with pytest.raises(PlanError, match=r"^config.json: ") as caught:
        read(config)
    assert message in str(caught.value)


def test_a_header_gives_shape_format_and_exact_size():
    model = resolve("qwen2.5-0.5b").geometry
    found = parse_gguf(io.BytesIO(of_model(model, "q4_k_m")), "m.gguf")
    assert found.quant == "q4_k_m"
    assert found.weights_bytes == weights_bytes(model, "q4_k_m")
    assert parameters(found.geometry) == parameters(model)
    assert found.geometry.tied
    assert found.geometry.qkv_bias


def test_a_plan_from_a_file(tmp_path, capsys):
    path = tmp_path / "m.gguf"
    path.write_bytes(of_model(resolve("qwen3-8b").geometry, "q5_k_m"))
    assert main(["plan", "vram", "--gguf", str(path), "--gpu", "12GB", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["quant"] == "q5_k_m"
    config = tmp_path / "config.json"
    config.write_text(json.dumps(LLAMA))
    assert main(["plan", "vram", "--config-json", str(config), "--gpu", "24GB", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["quant"] == "bf16"


def test_counts_in_a_header_are_not_believed():
    for data, message in (
        (b"GGML" + bytes(20), "does not begin with GGUF"),
        (b"GGUF" + (1).to_bytes(4, "little"), "expected version 2 or 3, got 1"),
        (b"GGUF" + (3).to_bytes(4, "little") + (2**63).to_bytes(8, "little"), "its number of tensors"),
        (Gguf().header()[:-3], "it ends within its header"),
        (Gguf(entries=[("a", 8, (2**40).to_bytes(8, "little"))]).header(), "the length of a text"),
        (Gguf(entries=[("a", 99, b"")]).header(), "unknown kind of value 99"),
        (Gguf(entries=[("a", 9, (9).to_bytes(4, "little") + bytes(8))]).header(), "an array of kind 9"),
        (Gguf(tensors=[("t", (4, 4), 77)]).header(), "has the unknown type 77"),
        (Gguf(tensors=[("t", (), 0)]).header(), "expected 1 to 4 dimensions, got 0"),
        (Gguf().header(), "names no general.architecture"),
    ):
        with pytest.raises(PlanError, match=r"^m.gguf: not a GGUF file") as caught:
            parse_gguf(io.BytesIO(data), "m.gguf")
        assert message in str(caught.value)


def test_blocks_are_ggmls():
    assert {name: 8 * block.size_bytes / block.elements for name, block in TYPES.items() if name.endswith("_K")} == {
        "Q2_K": 2.625, "Q3_K": 3.4375, "Q4_K": 4.5, "Q5_K": 5.5, "Q6_K": 6.5625
    }  # fmt: skip
