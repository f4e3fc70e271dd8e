"""How a command ends, whoever ends it."""

from __future__ import annotations

import argparse
import signal
import subprocess
import sys

import pytest

from streamkit.ops.command import carry_out
from streamkit.ops.options import Parser
from streamkit.ops.settings import SettingsError


class OddError(Exception):
    """Another refusal."""


def end(error: BaseException | None, *arguments: str) -> int:
    def run(_options: argparse.Namespace) -> int:
        if error is not None:
            raise error
        return 7

    return carry_out(Parser(prog="headrace test"), arguments, run, refusals=(OddError,))


@pytest.mark.parametrize(
    ("error", "status", "told"),
    [
        (None, 7, ""),
        (SettingsError("port: expected a number"), 2, "headrace test: port: expected a number\n"),
        (OddError("not today"), 2, "headrace test: not today\n"),
        (KeyboardInterrupt(), 130, ""),
    ],
)
def test_an_end_is_a_status_and_at_most_a_line(error, status, told, capsys: pytest.CaptureFixture[str]):
    assert end(error) == status
    assert capsys.readouterr() == ("", told)


def test_a_wrong_argument_is_one(capsys: pytest.CaptureFixture[str]):
    assert end(None, "--odd") == 2
    assert capsys.readouterr().err == "headrace test: unknown option --odd; see headrace test --help\n"


def test_help_is_a_success(capsys: pytest.CaptureFixture[str]):
    assert end(None, "--help") == 0
    assert capsys.readouterr().out.startswith("usage: headrace test")


def test_our_own_bug_is_not_hidden():
    with pytest.raises(ZeroDivisionError):
        end(ZeroDivisionError())


def test_a_reader_that_leaves_is_an_end_without_a_word():
    line = [sys.executable, "-m", "launch", "metrics", "--markdown"]
    with subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as metrics:
        metrics.stdout.close()
        assert metrics.stderr.read() == b""
        assert metrics.wait() == 1


def test_ctrl_c_is_an_end_without_a_word():
    line = [sys.executable, "-m", "launch", "conform", "--self", "--only", "cancel-burst"]
    with subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as suite:
        assert suite.stdout.readline().startswith(b"scripted backend")
        suite.send_signal(signal.SIGINT)
        assert suite.communicate()[1] == b""
        assert suite.returncode == 130
