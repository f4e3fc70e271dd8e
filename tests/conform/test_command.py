"""`headrace conform` as a person runs it."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.support.gateway import gateway
from tests.support.timing import FACTOR

__all__ = ["gateway"]


def _conform(*arguments, seconds=120):
    line = [sys.executable, "-m", "launch", "conform", "--patience-s", str(5 * FACTOR), *arguments]
    return subprocess.run(line, capture_output=True, text=True, timeout=seconds * FACTOR, check=False)


def test_black_box_cases_run_against_any_gateway(gateway, tmp_path):
    report = tmp_path / "report.json"
    done = _conform(gateway.edge_url, "--json", str(report))
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(report.read_bytes())
    assert found["mode"] == "gateway"
    assert found["counts"]["fail"] == 0
    judged = [result for result in found["results"] if result["verdict"] != "skipped"]
    assert len(judged) >= 25
    assert {result["needs"] for result in judged} == {"gateway"}
    assert f"{len(found['results'])} cases" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ((), "name a gateway's URL, or --self"),
        (("--self", "http://127.0.0.1:1"), "name a gateway's URL, or --self"),
        (("http://127.0.0.1:1", "--only", "nonsense"), "no such case: nonsense; --list prints them"),
        (("http://127.0.0.1:1", "--backend-listen", "8000"), "argument --backend-listen: expected HOST:PORT"),
        (("127.0.0.1:7400",), "argument URL: expected http://HOST:PORT or https://HOST, got 127.0.0.1:7400"),
        (("http://127.0.0.1:1", "--idle-ms", "0"), "argument --idle-ms: expected a number above 0 and at most"),
        (("http://127.0.0.1:1", "--api-key-env", "HEADRACE_NO_SUCH_KEY"), "HEADRACE_NO_SUCH_KEY is not set"),
        (("http://127.0.0.1:1",), "does not answer"),
        (("http://127.0.0.1:1", "--model", "any"), "does not answer"),
    ],
)
def test_what_cannot_be_run_is_said_in_one_line(arguments, told):
    done = _conform(*arguments)
    assert done.returncode == 2
    assert told in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_failed_case_is_exit_status_1_and_says_why(tmp_path):
    program = (
        "import asyncio, sys\n"
        "from loadtest.conform.backend import Backend\n"
        "from loadtest.conform.faulty.gateway import FaultyGateway\n"
        "from loadtest.conform.rig import Timings\n"
        "async def main():\n"
        "    async with Backend([('127.0.0.1', 0)], 'conform') as backend:\n"
        "        timings = Timings(9, 9, 9)\n"
        "        async with FaultyGateway(backend.urls, 'conform', 'k', timings, ['done-once', 'wrong-key']) as g:\n"
        "            print(g.url, flush=True)\n"
        "            await asyncio.Event().wait()\n"
        "asyncio.run(main())\n"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as faulty:
        try:
            url = faulty.stdout.readline().strip()
            done = _conform(url, "--only", "done-once", "--only", "chunk-shape")
        finally:
            faulty.terminate()
    assert done.returncode == 1
    assert "✗ done-once" in done.stdout
    assert "2 times [DONE]" in done.stdout
    assert "see BerriAI/litellm#39748" in done.stdout
    assert "2 cases: 1 pass, 1 fail" in done.stdout


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_our_own_edge_conforms(tmp_path):
    report = tmp_path / "self.json"
    done = _conform("--self", "--json", str(report), seconds=200)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(report.read_bytes())
    odd = [result for result in found["results"] if result["verdict"] in ("deviation", "fail")]
    assert odd == []
    assert found["counts"]["pass"] >= 90
