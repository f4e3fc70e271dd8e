"""The diagrams in docs/architecture.md are the tables in the code."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from edge.protocol.states import ATTEMPT_TABLE, STREAM_TABLE
from tests.support.diagrams import drawn

PAGE = Path(__file__).parents[3] / "docs" / "architecture.md"


@pytest.mark.parametrize(("name", "table"), [("stream", STREAM_TABLE), ("attempt", ATTEMPT_TABLE)])
def test_diagram_is_drawn_from_the_table(name, table):
    found = re.search(rf"<!-- {name} -->\n```mermaid\n(.*?)\n```", PAGE.read_text(), re.DOTALL)
    assert found is not None
    assert found[1] == drawn(table)
