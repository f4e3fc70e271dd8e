"""The diagram and the example of docs/concepts/leases.md are what the code says."""

from __future__ import annotations

import re
from pathlib import Path

from core_gpu.arbiter.allocator import Gpu, Holding, Placement, Refusal, Rule, pending_mb, place
from core_gpu.arbiter.states import TABLE
from tests.support.diagrams import drawn

PAGE = Path(__file__).parents[3] / "docs" / "concepts" / "leases.md"


def test_the_diagram_is_drawn_from_the_table():
    found = re.search(r"<!-- lease -->\n```mermaid\n(.*?)\n```", PAGE.read_text(), re.DOTALL)
    assert found is not None
    assert found[1] == drawn(TABLE)


def test_the_example_is_true():
    pending = pending_mb([Holding(9_000, 9_400), Holding(6_000, 2_000)])
    card = Gpu("GPU-0", 0, 24_000, used_mb=9_400 + 2_000 + 1_500, pending_mb=pending)
    assert card.used_mb + pending == 16_900
    assert isinstance(place([card], 4_000, Rule()), Placement)
    assert place([card], 5_000, Rule()) == Refusal(4_444, 5_000)
