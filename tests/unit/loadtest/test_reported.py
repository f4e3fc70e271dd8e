"""How a benchmark with a JSON report ends."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import msgspec
import pytest

from loadtest.launched import SiteError
from loadtest.relay.machine import UnfitError
from loadtest.reported import Place, add_options, report
from streamkit.ops.options import Parser

TWO_CORES = pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="two cores are needed")


class Found(msgspec.Struct):
    number: int


def run(*arguments: str, measure=lambda _options, _place: Found(7), **keywords: object) -> int:
    parser = Parser(prog="headrace bench test")
    add_options(parser)
    return report(parser, arguments, measure, **keywords)


@TWO_CORES
def test_the_report_is_printed_and_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert run("--json", str(tmp_path / "report.json")) == 0
    assert json.loads(capsys.readouterr().out) == {"number": 7}
    assert json.loads((tmp_path / "report.json").read_text()) == {"number": 7}


class CallError(Exception):
    def details(self) -> str:
        return "out of breath"


@TWO_CORES
@pytest.mark.parametrize(
    ("error", "status", "told"),
    [
        (UnfitError("--seconds is above 0"), 2, "--seconds is above 0"),
        (SiteError("arbiter ended: it says nothing"), 1, "arbiter ended: it says nothing"),
        (OSError("no room"), 1, "no room"),
        (CallError(), 1, "out of breath"),
    ],
)
def test_a_failure_is_one_line_and_leaves_nothing(error, status, told, capsys: pytest.CaptureFixture[str]):
    folders: list[Path] = []

    def measure(_options: object, place: Place) -> Found:
        folders.append(place.folder)
        raise error

    assert run(measure=measure, failures=(CallError,)) == status
    assert capsys.readouterr() == ("", f"headrace bench test: {told}\n")
    assert not folders[0].exists()


@TWO_CORES
def test_sigterm_ends_it_as_ctrl_c_does(capsys: pytest.CaptureFixture[str]):
    before = signal.getsignal(signal.SIGTERM)

    def measure(_options: object, _place: Place) -> Found:
        os.kill(os.getpid(), signal.SIGTERM)
        raise AssertionError("it went on")

    assert run(measure=measure) == 130
    assert signal.getsignal(signal.SIGTERM) is before
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("where", ["", "nowhere/report.json"])
def test_a_report_that_could_not_be_written_is_refused_before_it_is_measured(
    where: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    assert run("--json", str(tmp_path / where)) == 2
    line = capsys.readouterr().err
    assert line.startswith("headrace bench test: argument --json: expected a file to write, got ")
    assert line.count("\n") == 1
