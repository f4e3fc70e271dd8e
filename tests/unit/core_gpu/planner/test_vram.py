"""`headrace plan vram` at its door, and the plans behind it."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from core_gpu.planner.estimate import estimate
from core_gpu.planner.nearest import nearest_fits
from core_gpu.planner.overhead import LLAMA_CPP, VLLM, compute_bytes
from core_gpu.planner.table import resolve
from core_gpu.planner.units import GIB, MIB, PlanError, card_bytes, size_bytes
from core_gpu.planner.verdicts import verdicts
from core_gpu.planner.vram import Wish, plan
from launch.cli import main


def wish(model="qwen2.5-7b", quant="q4_k_m", **changes):
    made = Wish(geometry=resolve(model).geometry, quant=quant, ctx=8_192, kv="q8_0", overhead=LLAMA_CPP)
    return replace(made, **changes)


def told(capsys, *argv):
    status = main(["plan", "vram", *argv])
    out, err = capsys.readouterr()
    return status, out, err


def test_the_issues_command_as_json(capsys):
    line = "--gpu 6GB --model llama-3.1-8b --quant q4_k_m --ctx 8192 --kv q8_0 --vision 1.3GB --json"
    status, out, _ = told(capsys, *line.split())
    found = json.loads(out)
    assert status == 1
    assert found["weights_bytes"] == pytest.approx(4.92e9, rel=0.02)
    assert found["kv_bytes"] == 131_072 // 2 * 8_192 * 34 // 32
    assert found["vision_bytes"] == 1_300_000_000
    assert found["overhead_bytes"] == found["overhead"]["compute_bytes"] + found["overhead"]["context_bytes"]
    parts = ("weights_bytes", "kv_bytes", "vision_bytes", "overhead_bytes")
    assert found["total_bytes"] == sum(found[part] for part in parts) - found["host_bytes"]
    assert (found["fits"], found["room"]) == (False, "none")
    assert 0 < found["n_gpu_layers"] < 33
    assert found["nearest"]
    assert all(change["total_bytes"] <= found["budget_bytes"] for change in found["nearest"])


def test_what_a_person_sees_fits_their_terminal(capsys):
    status, out, err = told(capsys, "--model", "llama-3.1-8b", "--vision", "1.3GB", "--kv", "q8_0")
    assert (status, err) == (1, "")
    assert max(map(len, out.splitlines())) <= 80
    assert "does not fit: 1.44 GB more than the 5.80 GB there are" in out
    assert "FP16 above 1.7 B does not fit 6 GB" in out
    assert "nearest that fits" in out


def test_the_six_gigabyte_profile():
    """Qwen2.5-7B: Q5_K_M does not fit at 8,192 tokens; Q4_K_M does, tightly beside what a desktop keeps."""
    assert plan(wish(quant="q5_k_m")).room == "none"
    assert plan(wish()).room == "roomy"
    assert plan(wish(others_bytes=500_000_000)).room == "none"
    tight = plan(wish(others_bytes=350_000_000))
    assert tight.room == "tight"
    assert tight.n_gpu_layers == 29
    assert "nothing else may be on the card" in verdicts(tight)[0]
    assert plan(wish(gpu_bytes=8 * GIB)).room == "roomy"


def test_what_is_offered_fits_and_names_what_it_changes():
    short = wish("llama-3.1-8b", vision_bytes=1_300_000_000, ctx=32_768, parallel=2)
    changes = nearest_fits(short)
    assert changes
    for change in changes:
        assert change.plan.fits
        assert change.options.startswith("--")
    assert nearest_fits(wish("llama-3.1-70b")) == []
    parallel = wish("qwen2.5-3b", quant="q4_k_m", kv="f16", parallel=12)
    assert not plan(parallel).fits
    assert "--parallel" in " ".join(change.options for change in nearest_fits(parallel))


def test_vllm_on_a_small_card_is_sent_to_llama_cpp():
    change = nearest_fits(wish("llama-3.1-8b", quant="bf16", kv="f16", overhead=VLLM))[-1]
    assert "llama.cpp or Ollama" in change.note
    assert change.plan.fits


def test_fewer_layers_need_less():
    layers = [plan(wish("llama-3.1-70b", gpu_bytes=size * GIB)).n_gpu_layers for size in (1, 6, 12, 24, 48, 80)]
    assert layers == sorted(layers)
    assert layers[0] == 0
    assert layers[-1] == 81


def test_the_compute_buffer_is_the_one_llama_cpp_logs():
    """LLamaSharp#1099, Qwen2.5-3B: "CUDA0 compute buffer size = 300.75 MiB"."""
    assert compute_bytes(resolve("qwen2.5-3b").geometry, 16 * GIB, gguf=True) == 300.75 * MIB


def test_vllms_activations_are_near_what_it_reported():
    """vllm#10511, Llama-3-8B on 79 GiB: "PyTorch activation peak memory 1.26GiB"."""
    found = compute_bytes(resolve("llama-3-8b").geometry, 80 * GIB, gguf=False)
    assert found / GIB == pytest.approx(1.26, rel=0.1)


def test_a_card_counts_in_binary_and_everything_else_as_it_says():
    assert card_bytes("6GB", "--gpu") == 6 * GIB == card_bytes("6144MiB", "--gpu")
    assert size_bytes("1.3GB", "--vision") == 1_300_000_000
    assert size_bytes("1.3 GiB", "--vision") == round(1.3 * GIB)
    assert size_bytes("0", "--vision") == 0


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ("", "expected one of --model, --gguf, --config-json, or a shape"),
        ("--model qwen3-8b --gguf x", "got --model, --gguf"),
        ("--model qwen3-8b --gpu 6G", "--gpu: expected GB, GiB, MB or MiB, got '6G'"),
        ("--model qwen3-8b --gpu 6", "--gpu: expected a unit: GB (10^9 bytes), GiB (2^30), MB, MiB, got '6'"),
        ("--model qwen3-8b --gpu 1MB", "--gpu: expected 256 MiB to 64 TiB, got '1MB'"),
        ("--model qwen3-8b --gpu -6GB", "argument --gpu: expected one argument"),
        ("--model qwen3-8b --vision big", "--vision: expected a size such as 6GB or 512MiB, got 'big'"),
        ("--model qwen3-8b --ctx 0", "--ctx: expected 1 to 16,777,216, got 0"),
        ("--model qwen3-8b --parallel -1", "--parallel: expected 1 to 4,096, got -1"),
        ("--model qwen3-8b --cap 1.5", "--cap: expected a share from 0.05 to 1, got 1.5"),
        ("--model qwen3-8b --cap nan", "--cap: expected a share from 0.05 to 1, got nan"),
        ("--model qwen3-8b --quant q4_m", "--quant: no quantisation 'q4_m', did you mean \"q4_k_m\"?"),
        ("--model qwen3-8b --kv q9", "--kv: no cache type 'q9'"),
        ("--model qwen3-8b --kv fp8", "--kv: fp8 is a cache type of vLLM"),
        ("--model qwen3-8b --quant bf16 --kv q8_0", "--kv: q8_0 is a cache type of llama.cpp"),
        ("--model qwen3-8b --overhead 2GB..1GB", "--overhead: expected LOW..HIGH"),
        ("--layers 3", "a shape of your own needs --hidden, --heads, --ffn, --vocab, too"),
        ("--layers 3 --hidden 8 --heads 0 --ffn 1 --vocab 1", "shape: heads: expected 1 to 2,048, got 0"),
        ("--layers 3 --hidden 8 --heads 3 --kv-heads 2 --ffn 1 --vocab 1", "shape: kv_heads: expected a divisor"),
        ("--gguf none.gguf", "none.gguf: no such file"),
        ("--config-json none.json", "none.json: no such file"),
    ],
)
def test_a_mistake_is_one_line_with_its_limit(capsys, argv, message):
    status, out, err = told(capsys, *argv.split())
    assert (status, out) == (2, "")
    assert err.startswith("headrace plan vram: ")
    assert message in err
    assert err.count("\n") == 1


def test_a_shape_of_ones_own(capsys):
    line = "--layers 32 --hidden 4096 --heads 32 --kv-heads 8 --ffn 14336 --vocab 128256 --gpu 24GB --json"
    status, out, _ = told(capsys, *line.split())
    found = json.loads(out)
    assert status == 0
    assert found["parameters"] == 8_030_261_248
    assert found["n_gpu_layers"] == 33


def test_the_arbiter_can_ask_by_name():
    found = estimate("llama3.1:8b-instruct-q4_K_M", ctx=8_192, kv="q8_0")
    assert found is not None
    assert found.reserve_mb < found.highest_mb < found.reserve_mb + 200
    assert found.need.weights_bytes == pytest.approx(4.92e9, rel=0.02)
    assert estimate("sim-chat") is None
    vllm = estimate("Qwen/Qwen2.5-7B-Instruct", vllm=True)
    assert vllm is not None
    assert vllm.quant == "bf16"
    with pytest.raises(PlanError, match="--ctx"):
        estimate("qwen3:8b", ctx=0)
