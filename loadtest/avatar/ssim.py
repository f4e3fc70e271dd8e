"""How alike two pictures are: structural similarity of their luma (Wang, Bovik, Sheikh, Simoncelli 2004).

Windows of 8 x 8 pixels, every position, all pixels of a window alike; the mean over all windows.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

__all__ = ["ssim"]

_SIDE: Final = 8
_AREA: Final = _SIDE * _SIDE
_C1: Final = (0.01 * 255) ** 2
_C2: Final = (0.03 * 255) ** 2


def ssim(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> float:
    """Return 1 for equal pictures, less for others.

    Args:
        one: [height, width], 0..255, at least 8 x 8.
        other: of the same size.

    Raises:
        ValueError: the sizes differ, or are too small.
    """
    if one.shape != other.shape or min(one.shape) < _SIDE:
        raise ValueError(f"expected two pictures of one size, at least 8 x 8, got {one.shape} and {other.shape}")
    x, y = one.astype(np.float64), other.astype(np.float64)
    sum_x, sum_y = _sums(x), _sums(y)
    mean_x, mean_y = sum_x / _AREA, sum_y / _AREA
    spread_x = _sums(x * x) / _AREA - mean_x**2
    spread_y = _sums(y * y) / _AREA - mean_y**2
    together = _sums(x * y) / _AREA - mean_x * mean_y
    found = ((2 * mean_x * mean_y + _C1) * (2 * together + _C2)) / (
        (mean_x**2 + mean_y**2 + _C1) * (spread_x + spread_y + _C2)
    )
    return float(found.mean())


def _sums(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the sum of each window."""
    whole = np.zeros((values.shape[0] + 1, values.shape[1] + 1))
    whole[1:, 1:] = values.cumsum(axis=0).cumsum(axis=1)
    found: NDArray[np.float64] = (
        whole[_SIDE:, _SIDE:] - whole[:-_SIDE, _SIDE:] - whole[_SIDE:, :-_SIDE] + whole[:-_SIDE, :-_SIDE]
    )
    return found
