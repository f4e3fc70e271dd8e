from __future__ import annotations

import io

import pytest

from launch.screen import Row, Screen


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def _a_plain_terminal(monkeypatch):
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")


ROWS = [
    Row("edge", "http://127.0.0.1:7400", "real", "gateway"),
    Row("simulator-vllm", "http://127.0.0.1:7430", "simulated", "a model, " * 20),
]


def test_the_table_fits_80_columns_and_has_no_colours_in_a_file():
    out = io.StringIO()
    Screen(out).table(ROWS)
    lines = out.getvalue().splitlines()
    assert max(map(len, lines)) <= 80
    assert "\x1b" not in out.getvalue()
    assert lines[1].split() == ["edge", "http://127.0.0.1:7400", "real", "gateway"]
    assert lines[2].endswith("…")


def test_a_terminal_gets_colours_unless_it_asked_for_none(monkeypatch):
    out = Terminal()
    Screen(out).table(ROWS)
    assert "\x1b[33msimulated" in out.getvalue()
    for name, value in (("NO_COLOR", "1"), ("TERM", "dumb")):
        with monkeypatch.context() as patch:
            patch.setenv(name, value)
            out = Terminal()
            Screen(out).table(ROWS)
            assert "\x1b" not in out.getvalue()


def test_progress_is_overwritten_on_a_terminal_and_said_once_elsewhere():
    for kind, wanted in ((Terminal, "starting a …\r\x1b[Kup\n"), (io.StringIO, "starting a …\nup\n")):
        out = kind()
        screen = Screen(out)
        screen.passing("starting a …")
        screen.passing("starting a …")
        screen.line("up")
        assert out.getvalue() == wanted
