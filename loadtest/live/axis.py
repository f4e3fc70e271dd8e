"""The vertical axis of a panel: from 0 in round steps, or by powers of ten where the values are too far apart."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

__all__ = ["Axis", "axis_of"]

#: Values so many times as far apart cannot both be read off one linear axis.
_APART: Final = 30.0
_STEPS: Final = (1.0, 2.0, 2.5, 5.0, 10.0)
#: At most so many steps of a linear axis.
_LINES: Final = 4
#: So that a value that is a power of ten but for rounding is one.
_NEARLY: Final = 1e-9


@dataclass(frozen=True, slots=True)
class Axis:
    """One axis.

    Args:
        ticks: values with a line, rising; the first lies at the bottom, the last at the top.
        logarithmic: each is ten times the one before.
    """

    ticks: tuple[float, ...]
    logarithmic: bool

    def height(self, value: float) -> float:
        """Return where a value lies: 0 at the bottom, 1 at the top; what is below the bottom lies on it."""
        low, high = self.ticks[0], self.ticks[-1]
        if not self.logarithmic:
            return (value - low) / (high - low)
        return math.log(max(value, low) / low) / math.log(high / low)


def axis_of(values: Sequence[float], unit: str) -> Axis:
    """Return the axis of a panel; only times are ever logarithmic: a count of 0 has no place on such an axis.

    Args:
        values: all that is drawn, none below 0.
        unit: by Grafana's name.
    """
    most = max(values, default=0.0)
    least = min((value for value in values if value > 0), default=most)
    if unit == "s" and most > _APART * least > 0:
        low = math.floor(math.log10(least) + _NEARLY)
        high = math.ceil(math.log10(most) - _NEARLY)
        return Axis(tuple(10.0**power for power in range(low, high + 1)), logarithmic=True)
    if most <= 0:
        return Axis((0.0, 1.0), logarithmic=False)
    scale = 10.0 ** math.floor(math.log10(most / _LINES))
    step = next(step * scale for step in _STEPS if step * scale * _LINES >= most * (1 - _NEARLY))
    lines = math.ceil(most / step - _NEARLY)
    return Axis(tuple(step * number for number in range(lines + 1)), logarithmic=False)
