"""The simulator as a process of its own: the ready-file, signals, a port that is taken."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from simulator.run import main
from simulator.server import Simulator, serve
from simulator.settings import SimulatorSettings
from tests.unit.simulator.raw import LIMIT_S, chat, connected, read_answer, until

pytestmark = pytest.mark.anyio
CODE = """
import json, sys
import msgspec
from simulator.run import main
from simulator.settings import SimulatorSettings
sys.exit(main(msgspec.convert(json.loads(sys.argv[1]), SimulatorSettings), sys.argv[2]))
"""


@contextlib.asynccontextmanager
async def process(ready: Path, **settings: Any) -> AsyncIterator[tuple[asyncio.subprocess.Process, dict[str, Any]]]:
    arguments = [sys.executable, "-c", CODE, json.dumps({"ttft_ms": 1, "itl_ms": 5, **settings}), str(ready)]
    child = await asyncio.create_subprocess_exec(*arguments, stderr=asyncio.subprocess.PIPE)
    try:
        await until(lambda: ready.exists() or child.returncode is not None, "it is ready")
        yield child, json.loads(await asyncio.to_thread(ready.read_bytes))
    finally:
        if child.returncode is None:
            child.kill()
        await child.communicate()


def port_of(line: dict[str, Any]) -> int:
    return int(line["url"].rsplit(":", 1)[1])


async def test_the_ready_file_says_where_it_is_and_what(tmp_path: Path) -> None:
    async with process(tmp_path / "ready.json", name="sim-a") as (child, line):
        assert line.pop("url") == line.pop("ops_url")
        assert line == {"name": "sim-a", "pid": child.pid, "kind": "simulated"}
        assert os.listdir(tmp_path) == ["ready.json"]  # noqa: PTH208 - pathlib would block no less


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_cuts_streams_in_the_open_and_the_process_ends_with_0(tmp_path: Path, number: int) -> None:
    async with process(tmp_path / "ready") as (child, line), connected(port_of(line)) as (reader, writer):
        writer.write(chat(ignore_eos=True))
        await asyncio.wait_for(reader.readuntil(b'"content":"'), LIMIT_S)
        child.send_signal(number)
        rest = await asyncio.wait_for(reader.read(), LIMIT_S)
        assert rest.endswith(b"\n\n\r\ne\r\ndata: [DONE]\n\n\r\n0\r\n\r\n")
        assert b"EngineCore encountered an issue" in rest
        assert await asyncio.wait_for(child.wait(), LIMIT_S) == 0


async def refused(port: int) -> bool:
    async with connected(port) as (reader, writer):
        writer.write(chat(max_tokens=1))
        return (await read_answer(reader)).code == 500


@pytest.mark.parametrize("hurry", [False, True])
async def test_a_drain_lets_the_stream_end_and_a_second_signal_does_not(tmp_path: Path, hurry: bool) -> None:
    async with (
        process(tmp_path / "ready", on_sigterm="drain") as (child, line),
        connected(port_of(line)) as (reader, writer),
    ):
        writer.write(chat(**({"ignore_eos": True} if hurry else {"max_tokens": 40})))
        await asyncio.wait_for(reader.readuntil(b'"content":"'), LIMIT_S)
        child.send_signal(signal.SIGTERM)
        if hurry:
            # Signals of one number join while they are pending: the first must have been taken.
            while not await refused(port_of(line)):
                pass
            child.send_signal(signal.SIGTERM)
        rest = b""
        with contextlib.suppress(ConnectionResetError):
            rest = await asyncio.wait_for(reader.read(), LIMIT_S)
        assert (b'"finish_reason":"length"' in rest) is not hurry
        assert await asyncio.wait_for(child.wait(), LIMIT_S) == 0


async def test_serve_stops_when_it_is_told_to() -> None:
    stop = asyncio.Event()
    ready: asyncio.Future[Simulator] = asyncio.get_running_loop().create_future()
    serving = asyncio.ensure_future(serve(SimulatorSettings(), ready=ready.set_result, stop=stop))
    async with connected((await ready).port) as (reader, writer):
        writer.write(chat(max_tokens=1, sim="ttft_ms=1"))
        assert (await read_answer(reader)).done
        stop.set()
        await asyncio.wait_for(serving, LIMIT_S)
        assert await reader.read() == b""


def test_a_port_that_is_taken_is_status_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert main(SimulatorSettings(port=port), str(tmp_path / "ready")) == 1
    assert f"simulator-vllm: cannot serve on 127.0.0.1:{port}" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
