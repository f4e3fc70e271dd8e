"""The measure of likeness is the published one: 1 for equal, and known values for known changes."""

from __future__ import annotations

import numpy as np
import pytest

from loadtest.avatar.ssim import ssim

ramp = np.add.outer(np.arange(40), np.arange(48)).astype(np.uint8) * 2


def test_equal_pictures_are_one_and_the_order_does_not_matter():
    noise = np.random.default_rng(1).integers(0, 256, ramp.shape).astype(np.uint8)
    assert ssim(ramp, ramp) == pytest.approx(1.0)
    assert ssim(ramp, noise) == pytest.approx(ssim(noise, ramp))
    assert ssim(ramp, noise) < 0.2


def test_flat_pictures_have_the_value_of_the_formula():
    # Without structure only luminance counts: (2ab + C1) / (a^2 + b^2 + C1).
    a, b, c1 = 100.0, 120.0, (0.01 * 255) ** 2
    one, other = np.full((16, 16), 100, np.uint8), np.full((16, 16), 120, np.uint8)
    assert ssim(one, other) == pytest.approx((2 * a * b + c1) / (a * a + b * b + c1))


def test_a_window_is_eight_by_eight_and_every_position_counts():
    one = np.full((8, 9), 100, np.uint8)
    other = one.copy()
    other[:, 8] = 120  # outside of the first of two windows
    c2 = (0.03 * 255) ** 2
    column = np.array([100.0] * 7 + [120.0])
    second = (2 * 100 * column.mean() + (0.01 * 255) ** 2) * c2
    second /= (100**2 + column.mean() ** 2 + (0.01 * 255) ** 2) * (column.var() + c2)
    assert ssim(one, other) == pytest.approx((1 + second) / 2)


def test_more_noise_is_less_alike():
    random = np.random.default_rng(2)
    found = [
        ssim(ramp, np.clip(ramp + random.normal(0, much, ramp.shape), 0, 255).astype(np.uint8)) for much in (2, 8, 32)
    ]
    assert found == sorted(found, reverse=True)
    assert found[0] > 0.9 > found[2]


def test_sizes_must_fit():
    with pytest.raises(ValueError, match="one size"):
        ssim(ramp, ramp[:8])
    with pytest.raises(ValueError, match="8 x 8"):
        ssim(ramp[:4], ramp[:4])
