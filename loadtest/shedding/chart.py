"""The chart: who answered in each half second, and what control knew of each engine's pressure."""

from __future__ import annotations

from typing import Final

from loadtest.shedding.play import Script, Seen
from loadtest.shedding.site import NAMES

__all__ = ["chart"]

_COLOURS: Final = {"alpha": "#0369a1", "beta": "#f59e0b", "nobody": "#dc2626"}
_LEVELS: Final = ("ok", "busy", "shedding", "down")
_WIDE: Final = 660.0
_LEFT: Final = 84.0
_STEP_S: Final = 0.5
_BARS: Final = (48.0, 190.0)
_STAIRS: Final = {"alpha": 232.0, "beta": 318.0}
_STAIR: Final = 18.0


def chart(script: Script, seen: Seen) -> str:
    """Return the chart as SVG."""
    end_s = script.whole_s
    out = [
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 760 420" font-family="sans-serif" font-size="12">',
        '<rect width="760" height="420" fill="#ffffff"/>',
    ]
    left, right = _x(script.calm_s, end_s), _x(script.calm_s + script.overload_s, end_s)
    out.append(f'<rect x="{left:.1f}" y="40" width="{right - left:.1f}" height="345" fill="#f1f5f9"/>')
    out.append(f'<text x="{left + 4:.1f}" y="36" fill="#475569">alpha is overloaded from outside</text>')
    for number, (name, colour) in enumerate(_COLOURS.items()):
        out.append(f'<rect x="{_LEFT + 90 * number}" y="8" width="12" height="12" fill="{colour}"/>')
        out.append(f'<text x="{_LEFT + 18 + 90 * number}" y="18">{name}</text>')
    out += _bars(seen, end_s)
    for name in NAMES:
        out += _stairs(name, seen, end_s)
    for second in range(0, int(end_s) + 1, 5):
        x = _x(second, end_s)
        out.append(f'<line x1="{x:.1f}" y1="385" x2="{x:.1f}" y2="390" stroke="#475569"/>')
        out.append(f'<text x="{x:.1f}" y="404" text-anchor="middle" fill="#475569">{second} s</text>')
    return "\n".join([*out, "</svg>"]) + "\n"


def _x(second: float, end_s: float) -> float:
    return _LEFT + _WIDE * second / end_s


def _bars(seen: Seen, end_s: float) -> list[str]:
    """Requests by who answered, as shares of each step."""
    top, bottom = _BARS
    out = [f'<text x="{_LEFT - 8}" y="{(top + bottom) / 2:.0f}" text-anchor="end" font-size="10">answered by</text>']
    for step in range(int(end_s / _STEP_S)):
        begin = step * _STEP_S
        answers = [who for at, who in seen.requests if begin <= at < begin + _STEP_S]
        y = bottom
        for name, colour in _COLOURS.items():
            count = sum(who == name or (name == "nobody" and who not in NAMES) for who in answers)
            if count:
                high = (bottom - top) * count / len(answers)
                y -= high
                wide = _x(_STEP_S, end_s) - _LEFT - 1
                size = f'width="{wide:.1f}" height="{high:.1f}"'
                out.append(f'<rect x="{_x(begin, end_s):.1f}" y="{y:.1f}" {size} fill="{colour}"/>')
    return out


def _stairs(name: str, seen: Seen, end_s: float) -> list[str]:
    """One engine's pressure over time."""
    top = _STAIRS[name]
    out = []
    for level, word in enumerate(_LEVELS):
        y = top + _STAIR * (len(_LEVELS) - 1 - level)
        label = f"{name} {word}" if level == len(_LEVELS) - 1 else word
        out.append(f'<text x="{_LEFT - 8}" y="{y + 4:.0f}" text-anchor="end" font-size="10">{label}</text>')
        out.append(f'<line x1="{_LEFT}" y1="{y:.0f}" x2="{_LEFT + _WIDE}" y2="{y:.0f}" stroke="#e2e8f0"/>')
    path: list[str] = []
    for at, by_name in seen.pressure:
        word_now = by_name.get(name)
        if word_now is None or at > end_s:
            continue
        y = top + _STAIR * (len(_LEVELS) - 1 - _LEVELS.index(word_now))
        x = _x(at, end_s)
        path.append(f"H{x:.1f} V{y:.1f}" if path else f"M{x:.1f} {y:.1f}")
    if path:
        out.append(f'<path d="{" ".join(path)}" fill="none" stroke="{_COLOURS[name]}" stroke-width="2"/>')
    return out
