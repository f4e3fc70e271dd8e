"""`headrace plan vram`: whether a model fits a card, drawn for a person or as JSON."""

from __future__ import annotations

import argparse
import json
from dataclasses import fields
from typing import Any, Final

from core_gpu.planner.geometry import Geometry, checked, parameters
from core_gpu.planner.gguf import read_gguf
from core_gpu.planner.kv import kv_named
from core_gpu.planner.nearest import Change, nearest_fits
from core_gpu.planner.overhead import overhead_of, read_overhead
from core_gpu.planner.quants import is_gguf, named
from core_gpu.planner.table import resolve
from core_gpu.planner.units import PlanError, card_bytes, gb, gib, mib, size_bytes
from core_gpu.planner.verdicts import card, verdicts
from core_gpu.planner.vram import VramPlan, Wish, plan
from launch.screen import Screen
from streamkit.ops.settings import SettingsError

__all__ = ["vram"]

_SHAPE: Final = ("layers", "hidden", "heads", "ffn", "vocab")
_BAR: Final = 20


def vram(options: argparse.Namespace) -> int:
    """Print the plan; 0 = it fits, 1 = it does not.

    Raises:
        SettingsError: the options cannot be used.
    """
    try:
        found = plan(_wish(options))
        changes = [] if found.fits else nearest_fits(found.wish)
    except PlanError as error:
        raise SettingsError(str(error)) from None
    if options.json:
        print(json.dumps(_document(found, changes), indent=2))
    else:
        _draw(Screen(), found, changes)
    return 0 if found.fits else 1


def _wish(options: argparse.Namespace) -> Wish:
    geometry, quant, weights = _model(options)
    quant = named(options.quant) if options.quant else quant or "q4_k_m"
    gguf = is_gguf(quant)
    vision = geometry.vision_bytes if options.vision is None else size_bytes(options.vision, "--vision")
    return Wish(
        geometry=geometry,
        quant=quant,
        ctx=options.ctx,
        kv=kv_named(options.kv, gguf=gguf),
        parallel=options.parallel,
        vision_bytes=vision,
        gpu_bytes=card_bytes(options.gpu, "--gpu"),
        cap=options.cap,
        others_bytes=size_bytes(options.others, "--others") if options.others else 0,
        overhead=read_overhead(options.overhead) if options.overhead else overhead_of(gguf=gguf),
        weights_bytes=None if options.quant else weights,
    )


def _model(options: argparse.Namespace) -> tuple[Geometry, str | None, int | None]:
    """Return shape, format and exact size, as far as what was named says."""
    sources = [name for name in ("model", "gguf", "config_json") if getattr(options, name)]
    own = [f"--{name}" for name in _SHAPE if getattr(options, name) is not None]
    if len(sources) + bool(own) != 1:
        wanted = (
            "expected one of --model, --gguf, --config-json, or a shape (--layers, --hidden, --heads, --ffn, --vocab)"
        )
        given = ", ".join((*(f"--{name.replace('_', '-')}" for name in sources), *own)) or "none"
        raise PlanError(f"{wanted}; got {given}")
    if options.model:
        found = resolve(options.model)
        return found.geometry, found.quant, None
    if options.gguf:
        file = read_gguf(options.gguf)
        # Of an unknown mixture the size is known and the rules are not: q4_k_m's layers stand in for its layers.
        return file.geometry, file.quant, file.weights_bytes
    if options.config_json:
        from core_gpu.planner.config_json import read_config  # noqa: PLC0415  one of three ways

        return read_config(options.config_json), "bf16", None
    return _own(options), None, None


def _own(options: argparse.Namespace) -> Geometry:
    missing = [f"--{name}" for name in _SHAPE if getattr(options, name) is None]
    if missing:
        raise PlanError(f"a shape of your own needs {', '.join(missing)}, too")
    given: dict[str, Any] = {
        field.name: value
        for field in fields(Geometry)
        if (value := getattr(options, field.name, None)) is not None and field.name != "name"
    }
    given.setdefault("kv_heads", options.heads)
    given.setdefault("head_dim", options.hidden // max(1, options.heads))
    return checked(Geometry(name="your model", source="command line", **given), "shape")


def _document(found: VramPlan, changes: list[Change]) -> dict[str, Any]:
    wish, need = found.wish, found.need
    return {
        "model": wish.geometry.name,
        "parameters": parameters(wish.geometry),
        "source": wish.geometry.source,
        "quant": wish.quant,
        "kv": wish.kv,
        "ctx": wish.ctx,
        "parallel": wish.parallel,
        "gpu_bytes": wish.gpu_bytes,
        "budget_bytes": found.budget_bytes,
        "weights_bytes": need.weights_bytes,
        "host_bytes": need.host_bytes,
        "kv_bytes": need.kv_bytes,
        "vision_bytes": need.vision_bytes,
        "overhead_bytes": need.overhead_bytes,
        "overhead": {
            "compute_bytes": need.compute_bytes,
            "context_bytes": need.context_bytes,
            "context_low_bytes": wish.overhead.low,
            "context_high_bytes": wish.overhead.high,
        },
        "total_bytes": need.total_bytes,
        "fits": found.fits,
        "room": found.room,
        "n_gpu_layers": found.n_gpu_layers,
        "verdicts": verdicts(found),
        "nearest": [
            {"options": change.options, "note": change.note, "total_bytes": change.plan.need.total_bytes}
            for change in changes
        ],
    }


def _draw(screen: Screen, found: VramPlan, changes: list[Change]) -> None:
    wish, need = found.wish, found.need
    sequences = f"{wish.ctx:,} tokens" + (f" x {wish.parallel}" if wish.parallel > 1 else "")
    screen.line(
        f"{screen.bold(wish.geometry.name)}  {parameters(wish.geometry) / 1e9:.2f} B, {wish.quant}, {sequences},"
        f" {wish.kv} cache"
    )
    screen.line(
        screen.dim(f"on a {card(wish.gpu_bytes)} card = {gib(wish.gpu_bytes)}; GB is 10^9 bytes, GiB is 2^30")
    )
    screen.line()
    kept = f"{mib(need.host_bytes)} more in host RAM" if need.host_bytes else ""
    overhead = f"{mib(wish.overhead.low)} to {mib(wish.overhead.high)}"
    most = max(need.total_bytes, found.budget_bytes)
    for name, size, note in (
        ("weights", need.weights_bytes - need.host_bytes, kept),
        ("KV cache", need.kv_bytes, ""),
        ("vision", need.vision_bytes, ""),
        ("compute", need.compute_bytes, ""),
        ("context", need.context_bytes, overhead),
    ):
        if size or name != "vision":
            _row(screen, name, size, most, note)
    _row(screen, "total", need.total_bytes, most, "", bold=True)
    less = f"less {gb(wish.others_bytes)} of others" if wish.others_bytes else ""
    _row(screen, f"{wish.cap:.0%} of card", found.budget_bytes, most, less)
    screen.line()
    first, *others = verdicts(found)
    for text in (first, *others):
        for line in _wrapped(text):
            screen.line(f"  {line if found.fits or text is not first else screen.red(line)}")
    if not found.fits:
        screen.line()
        screen.line(
            f"  {screen.bold('nearest that fits')}" if changes else "  no format, cache or context makes it fit"
        )
    wide = max((len(change.options) for change in changes), default=0)
    for change in changes:
        total = gb(change.plan.need.total_bytes)
        screen.line(f"    {change.options:{wide}}  {total}{', tight' if change.plan.room == 'tight' else ''}")
        if change.note:
            screen.line(f"      {screen.dim(change.note)}")


def _row(screen: Screen, name: str, size: int, most: int, note: str, *, bold: bool = False) -> None:
    bar = "█" * max(1 if size else 0, round(_BAR * size / most))
    text = f"  {name:12}{gb(size):>10} {gib(size):>11}  {bar}"
    screen.line((screen.bold(text) if bold else text) + (f"  {screen.dim(note)}" if note else ""))


def _wrapped(text: str, width: int = 76) -> list[str]:
    lines = [""]
    for word in text.split():
        if lines[-1] and len(lines[-1]) + 1 + len(word) > width:
            lines.append("")
        lines[-1] += f" {word}" if lines[-1] else word
    return lines
