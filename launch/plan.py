"""`headrace plan …`: figures before anything runs. The options; what they ask for is `core_gpu.planner`'s."""

from __future__ import annotations

import argparse
import dataclasses
from typing import Any

from core_gpu.planner.fleet import Fleet

__all__ = ["add"]


def add(commands: Any) -> None:
    """Add the command to argparse's `commands`."""
    plan = commands.add_parser("plan", description="Say what would fit, before anything runs.")
    plans = plan.add_subparsers(dest="plan", metavar="WHAT", required=True, title="what")
    _vram(plans.add_parser("vram", help="one model on one card", description=_VRAM))
    _modes(plans.add_parser("modes", help="engines that share GPUs: flags, environment", description=_MODES))
    _capacity(plans.add_parser("capacity", help="users, money and bandwidth of a fleet", description=_CAPACITY))


_VRAM = "Say whether a model fits a card: weights, KV cache, vision encoder, overhead, and the nearest that fits."


def _vram(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(run="launch.plan_vram:vram", command="plan vram")
    parser.add_argument(
        "--gpu", default="6GB", metavar="SIZE", help="the card's memory; 6GB on the box is 6 GiB (%(default)s)"
    )
    parser.add_argument(
        "--cap", type=float, default=0.9, metavar="SHARE", help="of it that may be filled (%(default)s)"
    )
    parser.add_argument("--others", metavar="SIZE", help="what others hold: 0.5GB to 1GB for a desktop (0)")
    which = parser.add_argument_group("the model: one of these, or its shape below")
    which.add_argument("--model", metavar="NAME", help="llama-3.1-8b, qwen2.5:7b-instruct-q5_K_M, …")
    which.add_argument("--gguf", metavar="FILE", help="read shape and exact size from its header")
    which.add_argument("--config-json", metavar="FILE", help="read its shape from a config.json")
    what = parser.add_argument_group("how it runs")
    what.add_argument(
        "--quant", metavar="FORMAT", help="q4_k_m … f16 for llama.cpp; bf16, fp8, awq for vLLM (q4_k_m)"
    )
    what.add_argument("--ctx", type=int, default=8192, metavar="N", help="tokens of a sequence (%(default)s)")
    what.add_argument("--kv", default="f16", metavar="TYPE", help="cache type: f16, q8_0, q4_0, fp8 … (%(default)s)")
    what.add_argument("--parallel", type=int, default=1, metavar="N", help="sequences at a time (%(default)s)")
    what.add_argument("--vision", metavar="SIZE", help="its vision encoder, e.g. 1.3GB (10^9 bytes) or 1.2GiB")
    what.add_argument(
        "--overhead", metavar="SIZE", help="CUDA context of the process, as measured, or LOW..HIGH (300..555 MiB)"
    )
    shape = parser.add_argument_group("a shape of your own")
    for name, meaning in (
        ("layers", "transformer blocks"),
        ("hidden", "width of the model"),
        ("heads", "attention heads"),
        ("kv-heads", "key and value heads (as many as heads)"),
        ("head-dim", "width of a head (hidden / heads)"),
        ("ffn", "width of the feed-forward block, or of an expert"),
        ("vocab", "tokens in the vocabulary"),
        ("experts", "experts in each layer (0)"),
        ("window", "tokens of a sliding window (0)"),
        ("window-layers", "layers that have it (0)"),
    ):
        shape.add_argument(f"--{name}", type=int, metavar="N", help=meaning)
    shape.add_argument("--tied", action="store_true", help="output and embedding are one matrix")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead")


_CAPACITY = (
    "Recompute the capacity, cost and bandwidth tables, and say which figures do not follow from their inputs."
)


def _capacity(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(run="launch.plan_capacity:plan_capacity", command="plan capacity")
    parameters = parser.add_argument_group("parameters; the plan's own values in brackets")
    for item in dataclasses.fields(Fleet):
        option = f"--{item.name.replace('_', '-')}"
        told = f"{item.metadata['meaning']} ({item.default:g})".replace("%", "%%")
        parameters.add_argument(option, type=float, default=item.default, metavar="N", help=told)
    shown = parser.add_mutually_exclusive_group()
    shown.add_argument("--json", action="store_true", help="print one JSON object instead")
    shown.add_argument(
        "--markdown", action="store_true", help="print Markdown tables instead, as in docs/capacity.md"
    )


_MODES = (
    "Print the flags and environment of every engine so that it keeps to its budget, or what a switch must check."
)


def _modes(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(run="launch.plan_modes:modes", command="plan modes")
    parser.add_argument(
        "--config", default="headrace.toml", metavar="FILE", help="with [gpu] and [[budgets]] (%(default)s)"
    )
    parser.add_argument("--mode", choices=("A", "B"), help="shared with discipline, or partitioned")
    parser.add_argument("--partition", choices=("whole", "mig", "mps", "mps-v3"), help="mode B's kind")
    parser.add_argument("--gpu", metavar="SIZE", help="memory of each GPU, e.g. 24GB; 24GB on the box is 24 GiB")
    parser.add_argument("--gpu-model", metavar="NAME", help="for MIG: a100-80gb, h100-80gb, h200, b200, a30 …")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead")
    parser.add_argument("--compose", metavar="FILE", help="write a Compose override there; - prints it")
    parser.add_argument("--check-switch", action="store_true", help="list what a switch to this layout needs")
    parser.add_argument("--state", metavar="FILE", help="with it: the arbiter's GetState as JSON, to check against")
