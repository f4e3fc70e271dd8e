"""What `make k6` decides, with stand-ins for k6 and Go on a PATH of its own; k6 itself is never run here."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
SSE = "k6/x/sse"
#: What the target and its script use of a machine.
TOOLS = ("bash", "cut", "dirname", "env", "make", "mkdir", "mv", "tail")
K6 = """#!/bin/bash
if [ "$1" = version ]; then echo "k6 v1.1.0"; echo "  xk6 v0, {knows} [js]"; else echo "{name} $*"; exit {status}; fi
"""
#: Builds what it is told to, or says no as a proxy does.
GO = """#!/bin/bash
echo "$*" >"{asked}"
{act}
"""
BUILDS = """while [ "$1" != --output ]; do shift; done
cp "{k6}" "$2" && chmod +x "$2" """


class Machine:
    """A machine that has what is put on it.

    Args:
        folder: an empty one.
    """

    def __init__(self, folder: Path) -> None:
        self.bin, self.built, self.asked = folder / "bin", folder / "build", folder / "asked"
        self.bin.mkdir()
        for name in (*TOOLS, "cp", "chmod"):
            program = shutil.which(name)
            assert program, name
            (self.bin / name).symlink_to(program)

    def k6(self, path: Path, *, knows: str = SSE, status: int = 0) -> Path:
        path.write_text(K6.format(knows=knows, name=path.name, status=status))
        path.chmod(0o755)
        return path

    def go(self, act: str) -> None:
        path = self.bin / "go"
        path.write_text(GO.format(asked=self.asked, act=act))
        path.chmod(0o755)

    def make(self, *words: str, **environment: str) -> tuple[int, str]:
        given = {"PATH": str(self.bin), "K6_FOLDER": str(self.built), **environment}
        line = ["make", "-s", "-C", ROOT, "k6", *words]
        done = subprocess.run(line, env=given, capture_output=True, text=True, check=False, timeout=30)
        return done.returncode, done.stdout + done.stderr


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def scripts(name: str, said: str) -> list[str]:
    return re.findall(rf"^{re.escape(name)} run (.*)$", said, re.MULTILINE)


def test_a_k6_on_the_path_that_knows_sse_runs_all_three(machine: Machine):
    machine.k6(machine.bin / "k6")
    machine.go("exit 1")
    status, said = machine.make("ARGS=-e RATE=20")
    assert status == 0
    assert [line.rpartition("/")[2] for line in scripts("k6", said)] == ["sse.js", "ws.js", "route.js"]
    assert all(line.startswith("-e RATE=20 ") for line in scripts("k6", said))
    assert not machine.asked.exists(), "nothing is built where one is there"


def test_a_run_that_exceeds_its_thresholds_fails(machine: Machine):
    machine.k6(machine.bin / "k6", status=99)
    status, said = machine.make()
    assert status != 0
    assert len(scripts("k6", said)) == 1


def test_the_one_that_is_named_is_used_or_refused(machine: Machine, tmp_path: Path):
    machine.k6(machine.bin / "k6", knows="nothing")
    own = machine.k6(tmp_path / "own")
    assert scripts("own", machine.make(f"K6={own}")[1])
    assert scripts("own", machine.make(K6=str(own))[1])
    machine.k6(own, knows="k6/x/sql")
    for wrong, words in ((own, "knows no k6/x/sse"), (tmp_path / "none", "no such program")):
        status, said = machine.make(f"K6={wrong}")
        assert status != 0
        assert words in said


def test_without_one_it_is_built_once_in_pinned_versions(machine: Machine, tmp_path: Path):
    machine.k6(machine.bin / "k6", knows="k6/x/sql")
    machine.go(BUILDS.format(k6=machine.k6(tmp_path / "made")))
    status, said = machine.make()
    assert status == 0, said
    assert not scripts("k6", said), "the one on the PATH knows no SSE"
    assert len(scripts("made", said)) == 3
    words = machine.asked.read_text().split()
    assert words[:1] == ["run"]
    pinned = [word for word in words if "@" in word] + [words[words.index("build") + 1]]
    assert len(pinned) == 3
    assert all(re.fullmatch(r"(\S+@)?v\d+\.\d+\.\d+", word) for word in pinned), pinned
    machine.asked.unlink()
    status, said = machine.make()
    assert (status, machine.asked.exists()) == (0, False), "the second time it is there"
    assert len(scripts("made", said)) == 3


@pytest.mark.parametrize("act", [
    'echo "go: downloading …" >&2; echo "go: xk6@v1: reading https://proxy.example: 403 Forbidden" >&2; exit 1',
    'echo "dial tcp: lookup proxy.example: no such host" >&2; exit 1',
])  # fmt: skip
def test_what_cannot_be_built_is_told_in_one_line_and_passes(machine: Machine, act: str):
    machine.go(act)
    status, said = machine.make()
    assert status == 0
    *_, last = said.strip().splitlines()
    assert last.startswith("make k6: skipped, Go could not build it: ")
    assert ("403 Forbidden" in last) or ("no such host" in last)
    assert "docs/loadtest.md" in last


def test_what_was_built_and_knows_no_sse_is_not_used(machine: Machine, tmp_path: Path):
    machine.go(BUILDS.format(k6=machine.k6(tmp_path / "made", knows="k6/x/sql")))
    status, said = machine.make()
    assert status == 0
    assert "skipped, what Go built knows no k6/x/sse" in said
    assert not scripts("made", said)


def test_without_go_it_says_so_and_passes(machine: Machine):
    status, said = machine.make()
    assert status == 0
    (line,) = said.strip().splitlines()
    assert line.startswith("make k6: skipped, there is neither a k6 with k6/x/sse nor Go")


def test_what_it_builds_is_left_out_of_git_and_its_page_says_the_same_versions():
    script = (ROOT / "loadtest/k6/run").read_text()
    assert "/../../build}" in script
    assert "/build/" in (ROOT / ".gitignore").read_text().splitlines()
    page = (ROOT / "docs/loadtest.md").read_text()
    pins = re.findall(r"^(?:builder|version|extension)=(\S+)$", script, re.MULTILINE)
    assert len(pins) == 3
    assert all(pin in page for pin in pins)
