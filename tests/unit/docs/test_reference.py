"""Generated pages are what the code says; what is written by hand links to what is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from edge.endpoints.avatars.asked import AVATARS, CALLS
from edge.endpoints.client_tokens import PATH as CLIENT_TOKENS
from edge.endpoints.streams import STREAMS
from edge.endpoints.websocket import PATH as SOCKET
from edge.protocol.request import PATHS
from launch.reference import sample, shapes, tables
from launch.reference.pages import pages
from streamkit.wire.errors import TABLE

ROOT = Path(__file__).parents[3]
PAGES = pages(ROOT)
LINK = re.compile(r"\]\((?!https?:|#|mailto:)([^)#\s]+)(?:#[^)\s]*)?\)")


@pytest.mark.parametrize("name", PAGES)
def test_a_generated_page_is_as_the_code_would_write_it(name):
    assert (ROOT / name).read_text() == PAGES[name], f"{name} is older than the code: make reference"


def test_every_setting_is_on_the_page_with_its_limits():
    page = PAGES["docs/reference/configuration.md"]
    assert "| `heartbeat_ms` | `15_000` | ms, 1 to 86,400,000 | Longest silence" in page
    assert "| `hedge_after_ms` | none |" in page
    assert '| `engine` | required | `"inference"`, `"ollama"`' in page
    assert "| `node` | empty | text |" in page
    shown = sum(
        len(table.settings) for group in sample.groups((ROOT / "headrace.toml").read_text()) for table in group.tables
    )
    assert page.count("\n| `") == shown > 200


def test_every_error_is_on_the_page():
    page = PAGES["docs/reference/errors.md"]
    assert [line.split("`")[1] for line in page.splitlines() if line.startswith("| `")] == [
        code.value for code in TABLE
    ]
    assert (
        "| `saturated` | 429 | 4429 | RESOURCE_EXHAUSTED | `rate_limit_error` | after 1 s | `rejected-saturated` |"
        in page
    )


def test_a_table_that_nobody_knows_is_told_where_to_go():
    with pytest.raises(LookupError, match=r"launch/reference/tables\.py"):
        tables.shape_of("nonsense")
    with pytest.raises(LookupError, match="no field"):
        shapes.field_of(tables.shape_of("edge"), "nonsense")


def test_the_wire_page_knows_every_path_and_every_header_of_ours():
    page = (ROOT / "docs/reference/wire.md").read_text()
    paths = [*(path.decode() for path in PATHS.values()), STREAMS.rstrip("/"), SOCKET, CLIENT_TOKENS, AVATARS, CALLS]
    assert [path for path in paths if f"`{path}" not in page] == []
    ours = {
        name.lower()
        for source in [*(ROOT / "edge").rglob("*.py"), ROOT / "streamkit/wire/errors.py"]
        for name in re.findall(r'b"(x-headrace-[a-z-]+)"', source.read_text())
    }
    # Between edges only.
    missing = {name for name in ours if name not in page.lower()} - {"x-headrace-tenant", "x-headrace-key"}
    assert not missing


def test_links_between_pages_lead_somewhere():
    dead = []
    for page in [
        ROOT / "README.md",
        ROOT / "CONTRIBUTING.md",
        *(ROOT / "docs").rglob("*.md"),
        *(ROOT / "docker").rglob("*.md"),
    ]:
        dead += [
            f"{page.relative_to(ROOT)}: {to}"
            for to in LINK.findall(page.read_text())
            if not (page.parent / to).exists()
        ]
    assert not dead
