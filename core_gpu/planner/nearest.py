"""What to change so that it fits: one thing at a time first, then two or three together, the dearest last."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, replace

from core_gpu.planner import kv as caches
from core_gpu.planner import quants
from core_gpu.planner.overhead import overhead_of
from core_gpu.planner.vram import VramPlan, Wish, plan

__all__ = ["Change", "nearest_fits"]

_LEAST_CTX = 512
_STEP = 256


@dataclass(frozen=True, slots=True)
class Change:
    """A plan that fits, and what it changes."""

    #: Options as the command line has them.
    options: str
    #: What that costs, in words; empty = the options say it.
    note: str
    plan: VramPlan


def nearest_fits(wish: Wish, most: int = 5) -> list[Change]:
    """Return up to `most` changes that make `wish` fit; each alone if any one does."""
    found = [change for change in _single(wish) if change.plan.fits]
    if len(found) < most:
        found += _together(wish)
    return found[:most]


def _single(wish: Wish) -> Iterator[Change]:
    gguf = quants.is_gguf(wish.quant)
    if wish.vision_bytes:
        yield _change(
            wish, "--vision 0", "its vision encoder on the CPU, or loaded by turns with the model", vision=0
        )
    for quant in _below(quants.LADDER[gguf], wish.quant, wish):
        change = _change(wish, f"--quant {quant}", "", quant=quant)
        if change.plan.fits:
            yield change
            break
    for kv in _below(caches.LADDER[gguf], wish.kv, wish):
        note = "needs flash attention" if gguf else ""
        yield _change(wish, f"--kv {kv}", note, kv=kv)
    if ctx := longest_ctx(wish):
        yield _change(wish, f"--ctx {ctx}", "tokens", ctx=ctx)
    if wish.parallel > 1:
        for parallel in range(wish.parallel - 1, 0, -1):
            change = _change(wish, f"--parallel {parallel}", "", parallel=parallel)
            if change.plan.fits:
                yield change
                break


def _together(wish: Wish) -> Iterator[Change]:
    """Yield combinations: the largest format that fits with the vision encoder, one without, and another engine's."""
    gguf = quants.is_gguf(wish.quant)
    kvs = (wish.kv, *_below(caches.LADDER[gguf], wish.kv, wish))
    formats = (wish.quant, *_below(quants.LADDER[gguf], wish.quant, wish))
    for vision in dict.fromkeys((wish.vision_bytes, 0)):
        for quant, kv in itertools.product(formats, kvs):
            trial = _with(wish, vision=vision, quant=quant, kv=kv)
            named = [f"--quant {quant}"] if quant != wish.quant else []
            named += [f"--kv {kv}"] if kv != wish.kv else []
            named += ["--vision 0"] if vision != wish.vision_bytes else []
            made = plan(trial)
            if not made.fits and kv == kvs[-1] and (ctx := longest_ctx(trial)):
                made = plan(replace(trial, ctx=ctx))
                named.append(f"--ctx {ctx}")
            if made.fits and len(named) > 1:
                yield Change(" ".join(named), "", made)
                break
    if not gguf:
        yield from _by_llama_cpp(wish)


def _by_llama_cpp(wish: Wish) -> Iterator[Change]:
    for quant in quants.LADDER[True]:
        trial = replace(_with(wish, quant=quant, kv="f16", vision=wish.vision_bytes), overhead=overhead_of(gguf=True))
        if plan(trial).fits:
            yield Change(f"--quant {quant} --kv f16", "with llama.cpp or Ollama instead of vLLM", plan(trial))
            return


def longest_ctx(wish: Wish) -> int:
    """Return the longest context below the wish's that fits, in steps of 256 tokens; 0 = not even 512 do."""
    low, high = 0, (wish.ctx - 1) // _STEP
    while low < high:
        middle = (low + high + 1) // 2
        if plan(replace(wish, ctx=middle * _STEP)).fits:
            low = middle
        else:
            high = middle - 1
    return low * _STEP if low * _STEP >= _LEAST_CTX else 0


def _below(ladder: tuple[str, ...], name: str, wish: Wish) -> tuple[str, ...]:
    """Return what `ladder` has that is smaller than `name`, whether or not it is on it."""
    if name in ladder:
        return ladder[ladder.index(name) + 1 :]
    if name in caches.KV and ladder in caches.LADDER.values():
        return tuple(rung for rung in ladder if caches.KV[rung] < caches.KV[name])
    size = quants.weights_bytes(wish.geometry, name)
    return tuple(rung for rung in ladder if quants.weights_bytes(wish.geometry, rung) < size)


def _change(
    wish: Wish,
    options: str,
    note: str,
    *,
    quant: str | None = None,
    kv: str | None = None,
    ctx: int | None = None,
    vision: int | None = None,
    parallel: int | None = None,
) -> Change:
    trial = _with(
        wish, quant=quant or wish.quant, kv=kv or wish.kv, vision=wish.vision_bytes if vision is None else vision
    )
    trial = replace(trial, ctx=ctx or wish.ctx, parallel=parallel or wish.parallel)
    return Change(options, note, plan(trial))


def _with(wish: Wish, *, quant: str, kv: str, vision: int) -> Wish:
    # A file's own size says nothing about another format.
    weights = wish.weights_bytes if quant == wish.quant else None
    return replace(wish, quant=quant, kv=kv, vision_bytes=vision, weights_bytes=weights)
