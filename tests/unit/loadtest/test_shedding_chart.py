"""The chart of a scripted overload: what was seen is what is drawn."""

from __future__ import annotations

from xml.etree import ElementTree as ET

from loadtest.shedding.chart import chart
from loadtest.shedding.play import Script, Seen


def test_requests_and_levels_are_drawn_where_they_were():
    script = Script(calm_s=1, overload_s=1, after_s=1)
    words = [(0.1, "ok"), (1.2, "shedding"), (2.9, "ok")]
    seen = Seen(
        requests=[(0.1, "alpha"), (1.1, "beta"), (1.2, "429"), (2.9, "alpha")],
        pressure=[(at, {"alpha": word, "beta": None}) for at, word in words],
    )
    assert seen.changes("alpha") == ["ok", "shedding", "ok"]
    assert seen.changes("beta") == []
    drawn = ET.fromstring(chart(script, seen))
    space = "{http://www.w3.org/2000/svg}"
    bars = [rect for rect in drawn.iter(f"{space}rect") if float(rect.get("width", "0")) > 100]
    colours = [bar.get("fill") for bar in bars if bar.get("fill") not in ("#ffffff", "#f1f5f9")]
    assert colours == ["#0369a1", "#f59e0b", "#dc2626", "#0369a1"]
    (path,) = drawn.iter(f"{space}path")
    assert path.get("d", "").count("H") == 2
