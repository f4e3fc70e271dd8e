"""The `[gpu]` table and the `[[budgets]]` of `headrace.toml`: who may have how much of which GPU."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

__all__ = ["Budget", "GpuSettings", "Mode", "Partition"]

Mode = Literal["A", "B"]
Partition = Literal["whole", "mig", "mps", "mps-v3"]

_Mb = Annotated[int, msgspec.Meta(ge=1, le=10_000_000)]
_MbOrNone = Annotated[int, msgspec.Meta(ge=0, le=10_000_000)]
_Count = Annotated[int, msgspec.Meta(ge=0, le=1_000_000)]


class GpuSettings(msgspec.Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """The GPUs of this host and how they are shared. `_mb` is MiB."""

    #: A: engines share each GPU, every one within its budget. B: the driver keeps them apart.
    mode: Mode = "A"
    #: Mode B's kind: a GPU each, MIG devices, MPS with limits, or MPS v3 with limits of the kernel.
    partition: Partition = "whole"
    #: Memory of each GPU, in the order of their indices.
    memory_mb: Annotated[tuple[_Mb, ...], msgspec.Meta(min_length=1, max_length=64)] = (24_000,)
    #: What they are, for MIG's profiles: a100-80gb, h100-80gb, h200, b200, a30, rtx-pro-6000; empty = no MIG.
    model: str = ""
    #: Share of each that all budgets together may take.
    cap_share: Annotated[float, msgspec.Meta(gt=0, le=1)] = 0.9


class Budget(msgspec.Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """One engine's part of one GPU. `_mb` is MiB."""

    #: Also the service's name in a compose file.
    name: Annotated[str, msgspec.Meta(pattern=r"^[a-z0-9][a-z0-9_-]{0,62}$")]
    engine: Literal["vllm", "ollama", "tfserving", "inference"]
    #: Index of its GPU.
    gpu: Annotated[int, msgspec.Meta(ge=0, le=63)] = 0
    #: All that its processes may hold, contexts included.
    budget_mb: _Mb
    #: Address to listen on. Engines ask nobody for a key: anything but loopback is for a private network, or a
    #: firewall. TensorFlow Serving listens everywhere whatever is said here.
    host: Annotated[str, msgspec.Meta(pattern=r"^[0-9A-Za-z.:-]{1,253}$")] = "127.0.0.1"
    #: 0 = the engine's own default.
    port: Annotated[int, msgspec.Meta(ge=0, le=65_535)] = 0
    #: What it serves, as the engine names it; vLLM needs one.
    model: str = ""
    #: TensorFlow Serving: the folder with the model's versions, as its own process sees it.
    model_path: Annotated[str, msgspec.Meta(pattern=r"^(/.*)?$", max_length=4_096)] = ""
    #: Memory of the model's weights; 0 = the planner derives it from the name.
    weights_mb: _MbOrNone = 0
    #: CUDA context and graphs, as measured; 0 = the planner's figure.
    overhead_mb: _MbOrNone = 0
    #: Tokens of one sequence.
    ctx: Annotated[int, msgspec.Meta(ge=1, le=16_777_216)] = 8_192
    #: Type of its KV cache: f16, bf16, fp8 (vLLM); f16, q8_0, q4_0 (Ollama).
    kv: str = "f16"
    #: Sequences at a time.
    parallel: Annotated[int, msgspec.Meta(ge=1, le=4_096)] = 1
    #: vLLM and Ollama: requests that may wait or run; 0 = twice `parallel` and eight.
    max_queued: _Count = 0
    #: vLLM: prompt tokens that may wait; 0 = none set.
    max_queued_tokens: _Count = 0
    #: vLLM: sleep mode, so that the arbiter can take its memory back.
    sleep: bool = False
    #: Ollama: models at a time.
    loaded_models: Annotated[int, msgspec.Meta(ge=1, le=64)] = 1
    #: Too much memory for too long: "shed" sends new work elsewhere and asks for room; "restart" also runs `restart`
    #: when that did not help.
    on_overrun: Literal["shed", "restart"] = "shed"
    #: A prober finds it sick for users, and keeping new work away did not help: "leave" only tells of it, "restart"
    #: runs `restart`.
    on_sick: Literal["leave", "restart"] = "leave"
    #: The command that restarts it, and nothing else: ["systemctl", "restart", "vllm"].
    restart: Annotated[tuple[str, ...], msgspec.Meta(max_length=64)] = ()
    #: MIG: profile, such as 3g.40gb, and the device's UUID, as `nvidia-smi -L` prints it.
    mig_profile: str = ""
    mig_uuid: Annotated[str, msgspec.Meta(pattern=r"^(MIG-[0-9a-fA-F-]{1,64})?$")] = ""
    #: MPS: share of the GPU's threads; 0 = all.
    thread_percent: Annotated[int, msgspec.Meta(ge=0, le=100)] = 0
    #: MPS v3: guaranteed part of the budget (`dmem.min`); 0 = all of it.
    soft_mb: _MbOrNone = 0
