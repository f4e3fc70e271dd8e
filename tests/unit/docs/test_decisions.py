"""The decision records: one number each, told by its heading, listed once, and cited by numbers that exist."""

from __future__ import annotations

import re
import subprocess
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).parents[3]
RECORDS = sorted((ROOT / "docs/adr").glob("*.md"))
CITED = re.compile(r"(?:ADR |adr/)(\d{4})(-[a-z0-9-]+\.md)?")


def test_every_record_has_a_number_of_its_own_and_says_it():
    numbers = Counter(path.name[:4] for path in RECORDS)
    twice = [number for number, count in numbers.items() if count > 1]
    assert not twice, f"two records have one number; give the later one the next free number: {twice}"
    for path in RECORDS:
        assert path.read_text().startswith(f"# {path.name[:4]} · "), path.name


def test_every_record_is_listed_in_the_architecture_page():
    page = (ROOT / "docs/architecture.md").read_text()
    missing = [path.name for path in RECORDS if f"[{path.name[:4]}](adr/{path.name})" not in page]
    assert not missing, f"list them under Decisions in docs/architecture.md: {missing}"


def test_whatever_is_cited_is_there():
    names = {path.name for path in RECORDS}
    numbers = {name[:4] for name in names}
    cited = 0
    for name in subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split():
        if not name.endswith((".md", ".py", ".toml", ".proto")) or not (ROOT / name).exists():
            continue
        for number, rest in CITED.findall((ROOT / name).read_text()):
            cited += 1
            assert number in numbers, f"{name} cites ADR {number}, which is not there"
            assert not rest or number + rest in names, f"{name} cites {number}{rest}, which is not there"
    assert cited > 10
