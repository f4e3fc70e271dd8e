"""What the traces are made of: `traces.toml`, and what a request of it reserves and uses."""

from __future__ import annotations

import functools
import random
import tomllib
from importlib import resources
from typing import Final, Literal, NamedTuple

import msgspec

from core_gpu.planner.kv import kv_named
from core_gpu.planner.overhead import overhead_of
from core_gpu.planner.quants import is_gguf
from core_gpu.planner.table import resolve
from core_gpu.planner.units import MIB, mib_up
from core_gpu.planner.vram import Wish, plan

__all__ = ["Context", "Mix", "Request", "Share", "Size", "Traces", "size", "traces"]

_ENGINES: Final[dict[bool, str]] = {True: "llama.cpp", False: "vllm"}


class Context(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One measured size of a process's CUDA context, in MiB."""

    engine: Literal["llama.cpp", "vllm"]
    mb: int
    source: str


class Share(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The range of used / reserved for one kind of engine."""

    kind: str
    low: float
    high: float
    source: str


class Request(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One kind of request: a language model of the planner's table, or so many MiB of some engine."""

    model: str = ""
    quant: str = ""
    ctx: int = 4_096
    kv: str = "f16"
    parallel: int = 1
    name: str = ""
    kind: str = ""
    mb: int = 0
    share: float = 0.0
    hold_s: float = 0.0
    resident: bool = False


class Mix(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Who asks for memory on one kind of machine."""

    about: str
    gpu_mb: int
    #: The arbiter's `margin_mb` on such a machine.
    margin_mb: int
    #: Numbers of GPUs that the gate tries.
    gpus: tuple[int, ...]
    requests: tuple[Request, ...]


class Traces(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The whole file."""

    contexts: tuple[Context, ...]
    shares: tuple[Share, ...]
    mixes: dict[str, Mix]


class Size(NamedTuple):
    """MiB that one lease reserves, and that its holder comes to use."""

    reserved_mb: int
    used_mb: int


@functools.cache
def traces() -> Traces:
    """Return `traces.toml`."""
    text = resources.files("core_gpu.waste").joinpath("traces.toml").read_text(encoding="utf-8")
    return msgspec.convert(tomllib.loads(text), Traces)


def size(request: Request, mix: Mix, chance: random.Random) -> Size:
    """Return what one lease for `request` reserves and uses; `chance` draws the difference."""
    if request.model:
        reserved, derived, engine = _model(request, mix)
        context = chance.choice([sample.mb for sample in traces().contexts if sample.engine == engine])
        return Size(reserved, derived + context)
    share = next(share for share in traces().shares if share.kind == request.kind)
    return Size(request.mb, round(request.mb * chance.uniform(share.low, share.high)))


@functools.cache
def _model(request: Request, mix: Mix) -> tuple[int, int, str]:
    """Return what is reserved, what is used without the context, and by which engine."""
    gguf = is_gguf(request.quant)
    overhead = overhead_of(gguf=gguf)
    geometry = resolve(request.model).geometry
    need = plan(
        Wish(
            geometry=geometry, quant=request.quant, ctx=request.ctx, kv=kv_named(request.kv, gguf=gguf),
            parallel=request.parallel, overhead=overhead, vision_bytes=geometry.vision_bytes,
            gpu_bytes=mix.gpu_mb * MIB,
        )
    ).need  # fmt: skip
    derived = need.total_bytes - need.context_bytes
    return mib_up(derived + overhead.planned), mib_up(derived), _ENGINES[gguf]
