"""The README's chart: every label has its place, and nothing lies over what is to be read."""

from __future__ import annotations

import re
from xml.etree import ElementTree as ET

import pytest

from loadtest.live.axis import axis_of
from loadtest.live.chart import Curve, Picture, chart

SVG = "{http://www.w3.org/2000/svg}"


def drawn(*pictures: Picture, mark_s: float | None = None) -> ET.Element:
    return ET.fromstring(chart(pictures, 20.0, ["a <caption>"], mark_s=mark_s))


def words(tree: ET.Element) -> list[str]:
    return ["".join(text.itertext()) for text in tree.iter(f"{SVG}text")]


@pytest.mark.parametrize(
    ("values", "unit", "ticks"),
    [
        ([0.0, 23.0], "short", (0, 10, 20, 30)),
        ([0.0, 396.0], "ops", (0, 100, 200, 300, 400)),
        ([0.012, 0.045], "s", (0, 0.02, 0.04, 0.06)),
        ([0.0, 0.09, 2.4], "s", (0, 1, 2, 3)),
        ([0.05, 2.4], "s", (0.01, 0.1, 1, 10)),
        ([0.01, 1.0], "s", (0.01, 0.1, 1)),
        ([1.0, 400.0], "short", (0, 100, 200, 300, 400)),
        ([0.0, 0.0], "short", (0, 1)),
        ([], "s", (0, 1)),
    ],
)
def test_ticks_are_round_and_hold_every_value(values: list[float], unit: str, ticks: tuple[float, ...]) -> None:
    axis = axis_of(values, unit)
    assert axis.ticks == pytest.approx(ticks)
    assert all(0 <= axis.height(value) <= 1 for value in values)
    assert (axis.height(axis.ticks[0]), axis.height(axis.ticks[-1])) == (0, 1)


def test_a_logarithmic_axis_has_its_powers_at_the_same_distance_and_a_floor() -> None:
    axis = axis_of([0.0004, 0.9], "s")
    assert [axis.height(tick) for tick in axis.ticks] == pytest.approx([0, 0.25, 0.5, 0.75, 1])
    assert axis.height(0.0) == 0


def test_values_lie_where_the_axis_says_and_the_moment_is_marked() -> None:
    tree = drawn(Picture("Streams", "short", [Curve("open", [(0.0, 0.0), (10.0, 4.0)])]), mark_s=5.0)
    (path,) = tree.iter(f"{SVG}path")
    begin, end = (tuple(map(float, pair)) for pair in re.findall(r"([\d.]+) ([\d.]+)", path.get("d", "")))
    lines = {float(line.get("y1", "")) for line in tree.iter(f"{SVG}line") if line.get("class") == "line"}
    assert (begin[1], end[1]) == (max(lines), min(lines))
    (mark,) = (line for line in tree.iter(f"{SVG}line") if line.get("class") == "mark")
    assert float(mark.get("x1", "")) == pytest.approx((begin[0] + end[0]) / 2)
    assert {"0 s", "10 s", "20 s", "a <caption>"} <= set(words(tree))
    assert "Streamscount" in words(tree)


def test_a_curve_that_stays_at_zero_is_named_and_hides_nothing() -> None:
    still, moving = [(0.0, 0.0), (9.0, 0.0)], [(0.0, 0.0), (9.0, 3.0)]
    tree = drawn(Picture("Streams", "short", [Curve("paused", still), Curve("open", moving)]))
    assert len(list(tree.iter(f"{SVG}path"))) == 1
    assert "0 all the time: paused" in words(tree)
    alone = drawn(Picture("Requests in line", "short", [Curve("waiting", still)]))
    assert len(list(alone.iter(f"{SVG}path"))) == 1
    assert "waiting" in words(alone)


def test_the_first_curve_is_drawn_last() -> None:
    points = [(0.0, 0.2), (9.0, 0.3)]
    tree = drawn(Picture("Gap", "s", [Curve("p50", points), Curve("p99", points)]))
    assert [path.get("class") for path in tree.iter(f"{SVG}path")] == ["s1", "s0"]


def test_labels_stay_inside_and_do_not_meet() -> None:
    names = ("open", "paused", "unread", "resumable")
    curves = [Curve(name, [(0.0, 1.0), (20.0, 12345.0)]) for name in names]
    tree = drawn(Picture("Streams", "short", curves), Picture("More", "short", curves))
    width = float(tree.get("viewBox", "").split()[2])
    for group in tree.iter(f"{SVG}g"):
        left = float(re.findall(r"[\d.]+", group.get("transform", ""))[0])
        legend = [(float(text.get("x", "0")), text.text or "") for text in group.iter(f"{SVG}text")]
        legend = [(x, name) for x, name in legend if name in names]
        ends = [x + 6.4 * len(name) for x, name in legend]
        assert all(end < x for end, (x, _) in zip(ends, legend[1:], strict=False))
        assert left + ends[-1] < width
        for text in group.iter(f"{SVG}text"):
            if text.get("text-anchor") == "end":
                assert float(text.get("x", "0")) - 6.4 * len(text.text or "") > -left


@pytest.mark.parametrize("part", ["light", "dark"])
def test_words_and_curves_are_told_from_their_paper(part: str) -> None:
    style = drawn().findtext(f"{SVG}style") or ""
    light, dark = style.split("@media (prefers-color-scheme:dark)")
    rules = dict(re.findall(r"\.(\w+)\{(?:fill|stroke):(#\w{6})\}", light if part == "light" else dark))
    for name, colour in rules.items():
        if name not in ("paper", "line"):
            assert contrast(colour, rules["paper"]) >= (4.5 if name in ("ink", "soft") else 3), name


def contrast(one: str, other: str) -> float:
    """Return WCAG's ratio."""
    light = []
    for colour in (one, other):
        parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
        r, g, b = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
        light.append(0.2126 * r + 0.7152 * g + 0.0722 * b)
    return (max(light) + 0.05) / (min(light) + 0.05)
