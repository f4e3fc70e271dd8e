from __future__ import annotations

import io
import json
import logging

import pytest

from streamkit.ops import log


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_lines_are_json_off_a_terminal():
    out = io.StringIO()
    log.configure("edge", stream=out)
    log.event(logging.getLogger("edge.relay"), "stream.end", outcome="finished", tokens=7, gap_ms=1.5, nothing=None)
    line = json.loads(out.getvalue())
    assert line.pop("ts").endswith("Z")
    assert line == {
        "level": "info", "service": "edge", "logger": "edge.relay", "event": "stream.end",
        "outcome": "finished", "tokens": 7, "gap_ms": 1.5,
    }  # fmt: skip


def test_lines_are_short_on_a_terminal():
    out = Terminal()
    log.configure("edge", stream=out)
    log.event(logging.getLogger("edge"), "stream.end", level=logging.WARNING, why="two words", ms=1.23456)
    assert out.getvalue().rstrip().endswith('\x1b[33mwarning\x1b[0m stream.end why="two words" ms=1.235')


@pytest.mark.parametrize("terminal", [False, True])
def test_prompts_and_keys_never_come_through(terminal):
    out = Terminal() if terminal else io.StringIO()
    log.configure("edge", stream=out)
    said = "the secret plan"
    log.event(
        logging.getLogger("edge"), "x", prompt=said, messages=[said], content=said, authorization=said, api_key=said
    )
    assert said not in out.getvalue()
    assert "[withheld]" in out.getvalue()


def test_levels_hold():
    out = io.StringIO()
    log.configure("edge", level="warning", stream=out)
    log.event(logging.getLogger("edge"), "quiet")
    log.event(logging.getLogger("edge"), "loud", level=logging.ERROR)
    assert [json.loads(line)["event"] for line in out.getvalue().splitlines()] == ["loud"]


def test_uvicorn_is_routed_here_and_its_access_log_is_off():
    out = io.StringIO()
    logging.getLogger("uvicorn.error").addHandler(logging.NullHandler())
    log.configure("edge", stream=out)
    logging.getLogger("uvicorn.error").info("Started server process")
    logging.getLogger("uvicorn.error").warning("Invalid HTTP request received.")
    logging.getLogger("uvicorn.access").warning("GET /")
    assert [json.loads(line)["event"] for line in out.getvalue().splitlines()] == ["Invalid HTTP request received."]
    # Its own level, because it is compared with TRACE on every connection.
    assert logging.getLogger("uvicorn.error").level == logging.WARNING


def test_an_exception_is_part_of_its_line():
    out = io.StringIO()
    log.configure("edge", stream=out)
    try:
        raise ValueError("odd")
    except ValueError:
        logging.getLogger("edge").exception("attempt.failed")
    (line,) = out.getvalue().splitlines()
    assert "ValueError: odd" in json.loads(line)["exception"]
