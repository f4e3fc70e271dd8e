"""The suite against nginx, with the configuration that the docs show."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
from pathlib import Path

import pytest

from loadtest.conform.backend import Backend
from loadtest.conform.http import Target
from loadtest.conform.rig import Rig, Timings
from loadtest.conform.suite import all_cases, run_cases
from loadtest.relay.gateways.base import answers, free_port
from tests.support.needs import program
from tests.support.processes import running, until
from tests.support.timing import FACTOR

CONFIG = Path(__file__).parents[2] / "loadtest/conform/peers/nginx.conf"
#: What a plain proxy cannot do: it hands on what the engine did.
KNOWN_TO_FAIL = {"empty-stream", "ids-and-pings", "no-done", "pings-hide-no-stall"}


def _nginx():
    return shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin") or program("nginx")


@pytest.mark.slow
@pytest.mark.needs("nginx")
@pytest.mark.timeout(300)
def test_nginx_passes_what_a_plain_proxy_can(tmp_path):
    port = free_port()

    async def judge():
        async with Backend([("127.0.0.1", 0), ("127.0.0.1", 0)], "conform") as backend:
            first, second = (url.rpartition(":")[2] for url in backend.urls)
            text = CONFIG.read_text().replace("8100", str(port)).replace("8101", first).replace("8102", second)
            config = tmp_path / "nginx.conf"
            config.write_text(re.sub(r"proxy_read_timeout \S+;", f"proxy_read_timeout {int(3 * FACTOR)}s;", text))
            line = [_nginx(), "-p", str(tmp_path), "-e", "stderr", "-c", str(config)]
            with running(line, tmp_path, name="nginx"):
                url = f"http://127.0.0.1:{port}"
                await asyncio.to_thread(until, lambda: answers(url, "/v1/models", 1.0))
                timings = Timings(first_event_s=3 * FACTOR, idle_s=3 * FACTOR)
                rig = Rig(Target(url, "conform"), backend, timings, 5 * FACTOR)
                return await run_cases(rig, all_cases(), addresses=2)

    results = {result.id: result for result in asyncio.run(judge())}
    red = {name: result.evidence for name, result in results.items() if result.verdict == "fail"}
    assert red.keys() <= KNOWN_TO_FAIL, red
    assert sum(result.verdict == "pass" for result in results.values()) >= 60
