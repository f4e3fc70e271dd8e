"""What a process takes beside weights and cache: the CUDA context, which nobody can derive, and compute buffers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from core_gpu.planner.geometry import Geometry
from core_gpu.planner.units import GIB, MIB, PlanError, size_bytes

__all__ = ["LLAMA_CPP", "VLLM", "Overhead", "compute_bytes", "overhead_of", "read_overhead"]


@dataclass(frozen=True, slots=True)
class Overhead:
    """Bytes per process for the CUDA context and what the framework keeps."""

    low: int
    #: What a plan counts with.
    planned: int
    high: int


#: 300 MB is PyTorch's context with lazy loading (pytorch#107667); 457 MiB is what Ollama reserves per device;
#: 555 MiB was measured on an RTX PRO 6000, and 107 MiB on an RTX 4060 Ti (llama.cpp#23604).
LLAMA_CPP: Final = Overhead(300 * MIB, 457 * MIB, 555 * MIB)
#: vLLM keeps CUDA graphs beside its context: 0.8 to 1.1 GB stay on a GPU when weights and cache sleep (vllm#32714).
#: Older releases reported up to 1.79 GiB (vllm#10511), so measure your own and say it with --overhead.
VLLM: Final = Overhead(763 * MIB, 906 * MIB, 1_049 * MIB)

#: llama.cpp's `n_ubatch`.
_UBATCH: Final = 512
#: vLLM's `max_num_batched_tokens` on cards below 70 GiB and above, and its `max_num_seqs`.
_BATCHED: Final = (2_048, 8_192)
_SEQUENCES: Final = 256


def overhead_of(*, gguf: bool) -> Overhead:
    """Return the default range of the engine that runs such weights."""
    return LLAMA_CPP if gguf else VLLM


def read_overhead(text: str, option: str = "--overhead") -> Overhead:
    """Read `400MiB`, or a range such as `300MiB..600MiB` whose upper end the plan counts with.

    Raises:
        PlanError: it is neither.
    """
    first, dots, second = text.partition("..")
    low = size_bytes(first, option)
    high = size_bytes(second, option) if dots else low
    if high < low:
        raise PlanError(f"{option}: expected LOW..HIGH, got {text[:40]!r}")
    return Overhead(low, high, high)


def compute_bytes(geometry: Geometry, card_bytes: int, *, gguf: bool) -> int:
    """Return the bytes of scratch buffers for one step, with flash attention.

    llama.cpp's is exact: float32 logits and hidden states of one micro-batch (its log says 300.75 MiB for
    Qwen2.5-3B). vLLM's is activations of one step and two copies of the sampler's logits, within 10 % of vllm#10511.
    """
    if gguf:
        return _UBATCH * 4 * (geometry.vocab + geometry.hidden)
    batched = _BATCHED[card_bytes >= 70 * GIB]
    active = 2 * batched * (3 * geometry.ffn + 4 * geometry.hidden)
    return active + 2 * _SEQUENCES * 4 * geometry.vocab
