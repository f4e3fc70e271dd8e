"""The tables' sizes against those that other people published or logged."""

from __future__ import annotations

from collections import Counter

import pytest

from core_gpu.planner.geometry import parameters, tensors
from core_gpu.planner.kv import kv_bytes
from core_gpu.planner.quants import GGUF, HF, LADDER, gguf_type, host_bytes, weights_bytes
from core_gpu.planner.table import known, parsed, resolve
from core_gpu.planner.units import GB, MIB, PlanError


def shape(name):
    return resolve(name).geometry


@pytest.mark.parametrize("entry", known(), ids=lambda entry: entry.name)
def test_a_shape_has_as_many_parameters_as_were_published(entry):
    assert parameters(entry.geometry) == entry.parameters


@pytest.mark.parametrize(
    ("model", "quant", "published_gb"),
    [
        # llama.cpp's tools/quantize/README.md, in bits per weight.
        ("llama-3.1-8b", "q4_k_m", 4.8944 * 8.030261 / 8),
        ("llama-3.1-8b", "q5_k_m", 5.7036 * 8.030261 / 8),
        ("llama-3.1-8b", "q6_k", 6.5633 * 8.030261 / 8),
        ("llama-3.1-8b", "q8_0", 8.5008 * 8.030261 / 8),
        ("llama-3.1-8b", "f16", 16.0005 * 8.030261 / 8),
        # Files on huggingface.co.
        ("llama-3.1-8b", "q4_k_m", 4.92),
        ("llama-3.1-8b", "awq", 5.73),
        ("llama-3.1-8b", "fp8", 9.08),
        ("llama-2-7b", "q4_k_m", 4.08),
        ("llama-2-7b", "q5_k_m", 4.78),
        ("llama-2-7b", "q8_0", 7.16),
        ("llama-2-7b", "f16", 13.48),
        ("qwen2.5-7b", "q4_k_m", 4.677),
        ("qwen2.5-7b", "q5_k_m", 5.439),
        ("qwen2.5-7b", "q8_0", 8.093),
        ("qwen2.5-7b", "f16", 15.23),
        ("qwen2.5-3b", "q4_k_m", 1.924),
        ("qwen2.5-3b", "q5_k_m", 2.219),
        ("qwen2.5-3b", "q8_0", 3.280),
        ("qwen2.5-3b", "f16", 6.17),
    ],
)
def test_a_file_is_as_large_as_published_to_two_percent(model, quant, published_gb):
    assert weights_bytes(shape(model), quant) / GB == pytest.approx(published_gb, rel=0.02)


def test_it_is_the_size_that_an_engine_logged():
    """ollama#9091: Qwen2.5-14B q4_K_M, "CUDA0 model buffer size = 8148.38 MiB", "CPU ... 417.66 MiB"."""
    model = shape("qwen2.5-14b")
    assert weights_bytes(model, "q4_k_m") / MIB == pytest.approx(8148.38 + 417.66, abs=0.02)
    assert host_bytes(model, "q4_k_m") / MIB == pytest.approx(417.66, abs=0.01)


def test_rows_that_are_no_multiple_of_256_fall_back_as_llama_quantize_does():
    """ollama#9031 logs the types of qwen2.5:0.5b, whose width is 896."""
    model = shape("qwen2.5-0.5b")
    counted = Counter(gguf_type(model, "q4_k_m", tensor) for tensor in tensors(model))
    del counted["F32"]  # vectors are counted by tensor there, and by kind here
    assert counted == {"Q5_0": 132, "Q8_0": 13, "Q4_K": 12, "Q6_K": 12}


def test_formats_shrink_down_the_ladder():
    for ladder in LADDER.values():
        sizes = [weights_bytes(shape("llama-3.1-70b"), quant) for quant in ladder]
        assert sizes == sorted(sizes, reverse=True)
    for quant in (*GGUF, *HF):
        assert weights_bytes(shape("mixtral-8x7b"), quant) > 0


@pytest.mark.parametrize(
    ("model", "f16", "q8_0", "q4_0"),
    [
        ("llama-2-7b", 5.243, 2.785, 1.475),  # multi-head attention: the user's "over 5 GB" is true for it alone
        ("llama-3.1-8b", 1.311, 0.696, 0.369),
        ("qwen2.5-7b", 0.573, 0.305, 0.161),
        ("qwen2.5-3b", 0.369, 0.196, 0.104),
    ],
)
def test_the_cache_of_ten_thousand_tokens(model, f16, q8_0, q4_0):
    sizes = [kv_bytes(shape(model), kv, 10_000) / GB for kv in ("f16", "q8_0", "q4_0")]
    assert sizes == pytest.approx([f16, q8_0, q4_0], abs=0.001)


def test_a_sliding_window_caps_the_cache_of_its_layers():
    model = shape("gemma-2-2b")
    short, long = kv_bytes(model, "f16", 4_096), kv_bytes(model, "f16", 8_192)
    assert long == short * 1.5
    assert kv_bytes(model, "f16", 4_096, parallel=3) == 3 * short


@pytest.mark.parametrize(
    ("name", "model", "quant"),
    [
        ("llama3.1:8b-instruct-q4_K_M", "llama-3.1-8b", "q4_k_m"),
        ("meta-llama/Llama-3.1-8B-Instruct", "llama-3.1-8b", None),
        ("Qwen/Qwen2.5-7B-Instruct-AWQ", "qwen2.5-7b", "awq"),
        ("bartowski/Qwen2.5-7B-Instruct-GGUF/Qwen2.5-7B-Instruct-Q5_K_M.gguf", "qwen2.5-7b", "q5_k_m"),
        ("RedHatAI/Meta-Llama-3.1-8B-Instruct-FP8-dynamic", "llama-3.1-8b", "fp8"),
        ("qwen3:8b", "qwen3-8b", None),
        ("llava:7b", "llava-1.5-7b", None),
    ],
)
def test_engines_names_are_understood(name, model, quant):
    found = parsed(name)
    assert found is not None
    assert (found.geometry.name, found.quant) == (model, quant)


def test_a_name_nobody_knows_is_not_guessed():
    assert parsed("sim-chat") is None
    assert parsed("llama-3.1-8b-something-else") is None
    with pytest.raises(PlanError, match=r'--model: no model .* did you mean "qwen2.5-7b"\?; there is: llama-2-7b'):
        resolve("qwen25-7b")
