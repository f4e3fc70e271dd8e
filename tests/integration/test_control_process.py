"""Control as a process of its own: ready file, ops port, drain, and settings that it refuses."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from control.run import main
from control.settings import ControlSettings
from streamkit.ops.http_client import HttpClient, HttpError
from streamkit.wire.backend import Backend
from streamkit.wire.state import EdgeReport, Header, Snapshot, SyncRequest
from tests.support.timing import FACTOR

TIMEOUT_MS = int(10_000 * FACTOR)
PROGRAM = """
import sys, msgspec
from control.run import main
from control.settings import ControlSettings
from streamkit.wire.backend import Backend
settings, backends, ready_file = sys.argv[1:]
sys.exit(main(
    msgspec.json.decode(settings, type=ControlSettings),
    msgspec.json.decode(backends, type=tuple[Backend, ...]),
    ready_file=ready_file,
))
"""


@contextlib.asynccontextmanager
async def process(tmp_path: Path, *backends: Backend) -> AsyncIterator[tuple[asyncio.subprocess.Process, dict]]:
    ready_file = tmp_path / "ready.json"
    settings = msgspec.json.encode(ControlSettings(port=0, ops_port=0)).decode()
    child = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        PROGRAM,
        settings,
        msgspec.json.encode(backends).decode(),
        str(ready_file),
        stderr=asyncio.subprocess.PIPE,
    )
    assert child.stderr is not None
    try:
        async with asyncio.timeout(TIMEOUT_MS / 1000):
            while b'"serve.ready"' not in (line := await child.stderr.readline()):
                assert line, "control ended before it was ready"
        yield child, json.loads(ready_file.read_text())
    finally:
        if child.returncode is None:
            child.kill()
        await child.communicate()


@pytest.mark.anyio
async def test_a_life_from_ready_to_drained(tmp_path):
    backend = Backend(name="gpu1", engine="vllm", url="http://127.0.0.1:9", models=("m",))
    async with process(tmp_path, backend) as (child, ready), HttpClient() as client:
        assert ready["name"] == "control"
        assert (await client.get(ready["ops_url"] + "/readyz", timeout_ms=TIMEOUT_MS)).status == 200
        with pytest.raises(HttpError, match="cannot connect"):
            await client.get("http://127.0.0.1:9/", timeout_ms=TIMEOUT_MS)

        async def sync(after: int, wait_ms: int, instance: str = "edge.0.1") -> Snapshot:
            edge = EdgeReport(header=Header(instance=instance, sequence=1))
            answer = await client.post_json(
                ready["url"] + "/v1/sync",
                SyncRequest(edge=edge, after=after, wait_ms=wait_ms),
                timeout_ms=4 * TIMEOUT_MS,
            )
            return msgspec.json.decode(answer.body, type=Snapshot)

        snapshot = await sync(0, 0)
        while snapshot.backends[0].health == "unknown":
            snapshot = await sync(snapshot.header.sequence, 30_000)
        assert snapshot.backends[0].health == "down"

        figures = (await client.get(ready["ops_url"] + "/metrics", timeout_ms=TIMEOUT_MS)).body.decode()
        assert 'headrace_backend_up{backend="gpu1"} 0.0' in figures
        assert "headrace_control_edges 1.0" in figures
        assert "headrace_control_syncs_total" in figures
        # The second edge's arrival is the next change, and shows the first one that its sync waits.
        held = asyncio.create_task(sync(snapshot.header.sequence + 1, 30_000, "held.0.1"))
        snapshot = await sync(snapshot.header.sequence, 30_000)
        assert [edge.header.instance for edge in snapshot.edges] == ["edge.0.1", "held.0.1"]
        child.send_signal(signal.SIGTERM)
        async with asyncio.timeout(TIMEOUT_MS / 1000):
            assert (await held).header == snapshot.header
            assert await child.wait() == 0
    assert not (tmp_path / "ready.json").exists()


@pytest.mark.parametrize(
    ("settings", "backend", "words"),
    [
        (ControlSettings(host="0.0.0.0"), {}, "(0.0.0.0) only where edges show a secret"),
        (ControlSettings(host="example.org"), {}, "control.edge_secret_env"),
        (
            ControlSettings(edge_secret_env="HEADRACE_TEST_NO_SUCH_KEY"),
            {},
            "control.edge_secret_env: the environment",
        ),
        (ControlSettings(store_path="/dev/null/x"), {}, "/dev/null/x: cannot be opened for writing: File exists"),
        (ControlSettings(), {"api_key_env": "HEADRACE_TEST_NO_SUCH_KEY"}, "backend gpu1: the environment has no"),
    ],
)
def test_unusable_settings_are_one_line_and_status_2(settings, backend, words, capsys):
    assert "HEADRACE_TEST_NO_SUCH_KEY" not in os.environ
    made = Backend(name="gpu1", engine="vllm", url="http://127.0.0.1:9", **backend)
    assert main(settings, (made,)) == 2
    err = capsys.readouterr().err
    assert words in err
    assert err.count("\n") == 1


def test_two_backends_of_one_name_are_refused(capsys):
    backend = Backend(name="gpu1", engine="vllm", url="http://127.0.0.1:9")
    assert main(ControlSettings(), (backend, backend)) == 2
    assert "backend gpu1: two backends have this name" in capsys.readouterr().err
