"""The docs page on waste and its chart: `python -m core_gpu.waste` writes both, and a test holds them to the code."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from core_gpu.arbiter.allocator import FITS
from core_gpu.waste.gate import LIMITS, SEEDS, Case, cases
from core_gpu.waste.mixes import traces

__all__ = ["CHART", "PAGE", "chart", "page", "results", "write"]

PAGE: Final = Path("docs/waste.md")
CHART: Final = Path("docs/waste.svg")
_PARTS: Final = (("estimate_error", "estimate error", "#c2410c"), ("stranded", "stranded", "#f59e0b"),
                 ("kept", "kept for who waits longest", "#94a3b8"))  # fmt: skip
#: Most of `kept` that the axis shows.
_AXIS: Final = 0.16
#: Between two lines, in hundredths.
_TICK: Final = 2


def results() -> dict[str, list[Case]]:
    """Return the cases by way to choose a GPU."""
    return {name: list(cases(choice)) for name, choice in FITS.items()}


def write(root: Path) -> None:
    """Write page and chart beneath `root`."""
    found = results()
    (root / PAGE).write_text(page(found), encoding="utf-8")
    (root / CHART).write_text(chart(found), encoding="utf-8")


def page(found: dict[str, list[Case]]) -> str:
    """Return the page in Markdown."""
    rows = []
    for best, first, worst in zip(found["best"], found["first"], found["worst"], strict=True):
        waste = best.waste
        cells = [
            best.mix, str(best.gpus), f"{waste.estimate_error:.1%}", f"{waste.stranded:.1%}",
            f"**{waste.total:.1%}**", f"{waste.kept:.1%}",
            *(f"{case.waste.used:.1%}" for case in (best, first, worst)),
        ]  # fmt: skip
        rows.append("| " + " | ".join(cells) + " |")
    means = {name: sum(case.waste.used for case in every) / len(every) for name, every in found.items()}
    order = sorted(means, key=lambda name: -means[name])
    mixes = "\n".join(f"- **{name}**: {mix.about}; {mix.gpu_mb:,} MiB" for name, mix in traces().mixes.items())
    assumed = sum(share.source.startswith("assumption") for share in traces().shares)
    limits = ", ".join(f"{part.replace('_', ' ')} below {limit:.0%}" for part, limit in LIMITS.items())
    return _TEXT.format(
        rows="\n".join(rows), mixes=mixes, assumed=assumed, limits=limits, seeds=len(SEEDS),
        ranking=", ".join(f"{name} fit {means[name]:.1%}" for name in order),
    )  # fmt: skip


def chart(found: dict[str, list[Case]]) -> str:
    """Return the chart as SVG: one bar for each case and way to choose, in the order best, first, worst."""
    labels = [f"{case.mix} x {case.gpus}" for case in found["best"]]
    bottom = 48 + 54 * len(labels)
    height = bottom + 34
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 760 {height}"',
        'font-family="sans-serif" font-size="12">',
        f'<rect width="760" height="{height}" fill="#ffffff"/>',
    ]
    for number, (_, label, colour) in enumerate(_PARTS):
        out.append(f'<rect x="{150 + 170 * number}" y="12" width="12" height="12" fill="{colour}"/>')
        out.append(f'<text x="{168 + 170 * number}" y="22">{label}</text>')
    for percent in range(0, round(_AXIS * 100) + 1, _TICK):
        x = 184 + percent / 100 / _AXIS * 540
        out.append(f'<line x1="{x:.1f}" y1="40" x2="{x:.1f}" y2="{bottom}" stroke="#e2e8f0"/>')
        out.append(f'<text x="{x:.1f}" y="{bottom + 14}" text-anchor="middle" fill="#475569">{percent} %</text>')
    out.append(f'<text x="184" y="{bottom + 29}" fill="#475569" font-size="10">of the memory beneath the cap</text>')
    for row, label in enumerate(labels):
        top = 44 + 54 * row
        out.append(f'<text x="138" y="{top + 26}" text-anchor="end">{label}</text>')
        for line, name in enumerate(FITS):
            out.append(f'<text x="150" y="{top + 12 + 15 * line}" font-size="10" fill="#475569">{name}</text>')
            left = 184.0
            for part, _, colour in _PARTS:
                wide = getattr(found[name][row].waste, part) / _AXIS * 540
                out.append(
                    f'<rect x="{left:.1f}" y="{top + 3 + 15 * line}" width="{wide:.1f}" height="11" fill="{colour}"/>'
                )
                left += wide
    at = 184 + LIMITS["total"] / _AXIS * 540
    out.append(f'<line x1="{at:.1f}" y1="36" x2="{at:.1f}" y2="{bottom}" stroke="#dc2626" stroke-dasharray="4 3"/>')
    out.append(
        f'<text x="{at + 4:.1f}" y="{bottom + 29}" fill="#dc2626" font-size="10">the limit, without "kept"</text>'
    )
    return "\n".join([*out, "</svg>"]) + "\n"


_TEXT: Final = """\
# How much memory leases waste

The user's rule: a change is blocked when 10 % of GPU memory or more is wasted. `make test` plays lease traces through
the arbiter's own allocator (`core_gpu/arbiter/allocator.py`) and fails beyond these limits: {limits}. *Written by
`python -m core_gpu.waste`; `tests/unit/core_gpu/waste` holds the page to the code.*

Two things waste memory, and they are gated apart, as means over time and as shares of what lies beneath the cap:

- **estimate error**: reserved, and never used by the holder at its peak;
- **stranded**: free, while everybody who waits is too large for it.

**Kept** is no waste of the allocator but the price of fairness: memory that a small request could have, kept for a
larger one that waited longer. It is shown and not gated.

| mix | GPUs | estimate error | stranded | total | kept | used: best fit | first fit | worst fit |
|---|---|---|---|---|---|---|---|---|
{rows}

![Waste by mix and way to choose a GPU](waste.svg)

Means of {seeds} seeds; twelve requests wait at any time, so the cards are as full as they can be. Memory in use,
mean of all cases: {ranking}. Worst fit is the one to avoid where large and small requests mix on many cards: it
leaves no room whole, and more must be kept. Best and first fit are within what another seed would change; best fit is
the arbiter's default, because its choice does not hang on the order of cards. On one card there is nothing to choose.

## What the traces are made of

[traces.toml](../core_gpu/waste/traces.toml) has every number with its source.

{mixes}

A language model reserves the planner's estimate. What it uses is weights, cache and compute buffers, which the
planner derives to the MiB and tests hold against engines' logs, and a CUDA context drawn from published measurements.
Other engines use a share of what they reserved: **those {assumed} ranges are assumptions**, because nobody has
published such figures, and they are marked so in the file.

On the laptop one lease fills the card, so its waste is decided by what is asked for, not by the allocator; its margin
is set to 64 MiB, because the default of 256 MiB alone is 4.6 % of 6 GB.

**How we would know that it is wrong.** On a real host `reserved - used` of the loaded leases (`headrace leases`) is
beyond 5 % of the card for a day.
"""
