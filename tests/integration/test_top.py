"""`headrace top` on a real gateway, in a real terminal and without one."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
import termios
import urllib.request
from pathlib import Path

import pytest

from tests.support.gateway import Gateway
from tests.support.processes import launch, until
from tests.support.terminal import GIVEN_BACK, HOME, Terminal
from tests.support.terminal import terminal as in_terminal

ROOT = Path(__file__).parents[2]
LINE = [sys.executable, "-m", "launch", "top"]


def chat(ours: Gateway) -> None:
    body = {"model": "sim-chat", "stream": True, "max_tokens": 8, "messages": [{"role": "user", "content": "hi"}]}
    request = urllib.request.Request(
        f"{ours.edge_url}/v1/chat/completions", json.dumps(body).encode(), {"content-type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=10) as answer:
        assert answer.read().endswith(b"data: [DONE]\n\n")


def test_once_as_json_over_the_ready_file_of_up(gateway: Gateway):
    chat(gateway)
    line = [*LINE, "--once", "--json", "--ready-file", str(gateway.up.ready_file)]
    done = subprocess.run(line, capture_output=True, timeout=30, check=True, cwd=ROOT)
    found = json.loads(done.stdout)
    (edge,) = found["edges"]
    assert edge["url"] == gateway.edge_ops_url
    assert edge["state"] == "ready"
    assert edge["requests"] >= 1
    assert 0 < edge["ttft_p50_s"] <= edge["ttft_p95_s"]
    assert [backend["name"] for backend in found["backends"]] == ["simulator-vllm"]
    assert {process["kind"] for process in found["processes"]} == {"edge", "control"}
    assert found["away"] == []


def terminal(*arguments: str, rows: int = 24) -> contextlib.AbstractContextManager[Terminal]:
    return in_terminal("top", "--every-ms", "100", *arguments, rows=rows)


def test_a_terminal_is_written_over_in_place(gateway: Gateway):
    chat(gateway)
    with terminal("--url", gateway.edge_ops_url, "--url", "http://127.0.0.1:9") as top:
        until(lambda: len(top.pages()) >= 3, what="three pages, each over the one before")
        first, *others = top.pages()
    assert "all since each process's start" in first
    assert "the last 0 s" in others[0]
    for page in (first, *others):
        assert "TTFT p50" in page
        assert "http://127.0.0.1:9 does not answer" in page
        assert page.count("\n") < 24
        assert not page.endswith("\n"), "it would scroll"


@pytest.mark.parametrize(("end", "status"), [("ctrl-c", 130), ("q", 0), ("terminate", 143)], ids=str)
def test_the_terminal_is_given_back_as_it_was(end: str, status: int):
    with terminal("--url", "http://127.0.0.1:9") as top:
        top.shows("no edge answers")
        assert not termios.tcgetattr(top.fd)[3] & termios.ECHO, "what is typed is not written over the page"
        if end == "terminate":
            top.process.send_signal(signal.SIGTERM)
        else:
            top.press(b"xq" if end == "q" else b"\x03")
        assert top.ended() == status
        assert termios.tcgetattr(top.fd) == top.before
        last = top.written[top.written.rindex(HOME) :]
        assert all(code in last for code in GIVEN_BACK)
        assert "Traceback" not in top.written
        assert top.written.endswith(GIVEN_BACK[0]), "the shell's prompt stands where it would have stood"


def test_a_page_that_is_too_long_is_cut_and_says_so(gateway: Gateway):
    with terminal("--ready-file", str(gateway.up.ready_file), rows=6) as top:
        page = top.shows("more lines; a taller window shows them")
    assert page.count("\n") == 5
    assert "TTFT p50" in page


def test_a_service_that_goes_away_and_comes_back_is_followed(tmp_path: Path):
    with launch("control", "--port", "0", "--ops-port", "0", folder=tmp_path) as control:
        url = control.ready()["ops_url"]
        with terminal("--url", url, "--window-s", "5") as top:
            assert f"  control  {url.removeprefix('http://127.0.0.1')}  ready" in top.shows("control  ")
            control.stop()
            page = top.shows(f"{url} does not answer")
            assert "no process answers" in page
            port = url.rsplit(":", 1)[1]
            with launch("control", "--port", "0", "--ops-port", port, folder=tmp_path, name="again") as again:
                again.ready()
                page = top.shows("control  ")
    assert "does not answer" not in page
    assert "-0." not in page, "a counter that began anew has not gone backwards"


def test_a_ready_file_that_is_gone_for_a_while_is_waited_for(tmp_path: Path):
    path = tmp_path / "ready.json"
    path.write_text(json.dumps({"services": [{"ops_url": "http://127.0.0.1:9"}]}))
    with terminal("--ready-file", str(path)) as top:
        top.shows("http://127.0.0.1:9 does not answer")
        path.unlink()
        top.shows("http://127.0.0.1:9 does not answer")
        path.write_text(json.dumps({"services": [{"ops_url": "http://127.0.0.1:19"}]}))
        page = top.shows("http://127.0.0.1:19 does not answer")
    assert "127.0.0.1:9 " not in page
