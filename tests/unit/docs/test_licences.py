"""docs/licences.md names every package that pyproject.toml asks for, and no other."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[3]


def asked_for() -> set[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    lists = [project["project"]["dependencies"], *project["project"]["optional-dependencies"].values()]
    lists += project["dependency-groups"].values()
    lines = {line for one in lists for line in one if isinstance(line, str)}
    names = {re.match(r"[A-Za-z0-9._-]+", line)[0] for line in lines}
    return names - {project["project"]["name"]}


def test_every_package_has_a_licence_there_and_none_is_left_over():
    page = (ROOT / "docs/licences.md").read_text()
    rows = [line.split("|")[1:3] for line in page.splitlines() if line.startswith("| `")]
    named = {name for names, _ in rows for name in re.findall(r"`([^`]+)`", names)}
    assert len(named) > 30
    assert named == asked_for()
    assert all(licence.strip() for _, licence in rows)


def test_the_two_copyleft_libraries_say_how_to_do_without():
    page = (ROOT / "docs/licences.md").read_text()
    for library, extra in (("libx264", "compositor"), ("espeak-ng", "speech")):
        (paragraph,) = re.findall(rf"\*\*{library}.*?(?=\n\*\*|\Z)", page, re.DOTALL)[:1]
        assert "GPL" in paragraph
        assert "*Without it:*" in paragraph
        assert f"`{extra}`" in paragraph
