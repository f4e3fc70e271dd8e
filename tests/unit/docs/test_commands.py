"""Every `headrace` command of the docs is one that its own parser takes: at night it is typed as it stands."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any, NoReturn

import pytest

from launch.cli import main
from streamkit.ops.options import Parser

ROOT = Path(__file__).parents[3]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")), *sorted((ROOT / "docker").rglob("*.md"))]
RUNBOOKS = sorted((ROOT / "docs/operations/alerts").glob("*.md"))
_BLOCK = re.compile(r"^```(?:sh|bash|console)\n(.*?)^```", re.MULTILINE | re.DOTALL)
_INLINE = re.compile(r"(?<!`)`((?:\.venv/bin/)?headrace [^`]+)`(?!`)")
_ENDS = re.compile(r"[|>&;<]|\d>")


def blocks(text: str) -> list[str]:
    """Return the lines of a page's shell blocks, those that go on joined."""
    return [line.strip() for block in _BLOCK.findall(text) for line in block.replace("\\\n", " ").splitlines()]


def words_of(line: str) -> list[str] | None:
    """Return the arguments of a line that begins with our command, up to a pipe or a redirection."""
    words = shlex.split(re.sub(r"\$\([^)]*\)", "X", line).replace("URL", "http://127.0.0.1:1"), comments=True)
    while words and ("=" in words[0] and words[0].split("=")[0].isupper()):
        words.pop(0)
    if not words or Path(words[0]).name != "headrace":
        return None
    end = next((at for at, word in enumerate(words) if at and _ENDS.match(word)), len(words))
    return words[1:end]


COMMANDS = [
    (path.relative_to(ROOT), words)
    for path in PAGES
    for line in blocks(path.read_text())
    if (words := words_of(line)) is not None
]
#: In the text of a runbook a command stands by its name.
NAMED = sorted({line for path in RUNBOOKS for line in _INLINE.findall(path.read_text())})


@pytest.fixture
def parse_only(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Have every command end well once its arguments were read; files to be written may be."""
    real = Parser.parse_args

    def parsed(self: Parser, *given: Any) -> NoReturn:
        real(self, *given)
        raise SystemExit(0)

    monkeypatch.setattr(Parser, "parse_args", parsed)
    monkeypatch.chdir(tmp_path)


@pytest.mark.usefixtures("parse_only")
@pytest.mark.parametrize(
    ("path", "words"), COMMANDS, ids=lambda part: part.name if isinstance(part, Path) else " ".join(part)
)
def test_a_command_of_the_docs_is_taken(path: Path, words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 0, f"{path}: headrace {shlex.join(words)}: {capsys.readouterr().err}"


@pytest.mark.parametrize("line", NAMED)
def test_a_command_that_a_runbook_names_is_there(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    words = words_of(line) or []
    assert main([*words, "--help"]) == 0, capsys.readouterr().err


@pytest.mark.usefixtures("parse_only")
def test_a_command_that_is_not_there_is_found() -> None:
    assert len(COMMANDS) > 50
    assert main(["leases", "lsit"]) != 0
    assert main(["events", "--knd", "x"]) != 0


@pytest.mark.parametrize("path", RUNBOOKS, ids=lambda path: path.stem)
def test_a_runbook_begins_with_a_command(path: Path) -> None:
    """At night, with a terminal and no browser: what to look at first is a command of ours."""
    look = path.read_text().split("\n## Look\n")[1].split("\n## ")[0]
    first = look.strip().splitlines()
    assert first[0] == "```sh"
    assert first[1].startswith("headrace ")
