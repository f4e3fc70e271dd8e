"""The relay benchmark's load side against itself and against relays that misbehave."""

from __future__ import annotations

import os
import socketserver
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

from loadtest.relay import proc
from loadtest.relay.children import Child
from loadtest.relay.load import chunks
from loadtest.relay.load.messages import OpenStreams, Pace, SendRequests
from loadtest.relay.load.side import LoadSide, LoadSideError
from tests.support.timing import MS

CPU = min(os.sched_getaffinity(0))


@pytest.fixture
def side(tmp_path):
    with LoadSide({CPU}, tmp_path) as load_side:
        yield load_side


def port_of(url: str) -> int:
    return int(url.rpartition(":")[2])


def opened(port: int, count: int, **more) -> OpenStreams:
    return OpenStreams(host="127.0.0.1", port=port, count=count, ramp_per_s=1000, deadline_s=20_000 * MS, **more)


def requests(port: int, **more) -> SendRequests:
    spec = {
        "host": "127.0.0.1", "port": port, "stream": True, "max_tokens": 3, "rate_per_s": 0, "in_flight_max": 2,
        "count": 10, "seconds": 10, "deadline_s": 20_000 * MS, "seed": 1,
    }  # fmt: skip
    return SendRequests(**(spec | more))


def window(seconds: float) -> tuple[int, int]:
    """Let a measuring window of so many seconds pass."""
    start = time.monotonic_ns()
    time.sleep(seconds)
    return start, time.monotonic_ns()


@pytest.mark.parametrize("step", [False, True])
def test_paced_streams_lose_nothing(side, step):
    side.pace(Pace(interval_ns=20_000_000, step=step))
    assert side.open_streams(opened(port_of(side.backend_url), 20)) == 20
    report = side.finish_streams(window(0.5), 20_000 * MS)
    assert report.outcomes.whole == 20
    assert report.outcomes.lost == report.outcomes.unfinished == 0
    assert report.transit_us is not None
    assert report.transit_us.count == report.tokens > 200
    assert report.ttft_ms is not None
    assert report.ttft_ms.count == 20
    pacing = side.pacing()
    assert pacing.streams == 20
    assert pacing.tokens >= report.tokens
    assert pacing.aborted == 0


def test_saturated_streams_lose_nothing(side):
    side.pace(Pace(interval_ns=0))
    assert side.open_streams(opened(port_of(side.backend_url), 4, counts_only=True)) == 4
    report = side.finish_streams(window(0.3), 30_000 * MS)
    assert report.outcomes.whole == 4
    assert report.tokens > 1000


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("rate", [0.0, 200.0])
def test_short_requests_share_connections(side, stream, rate):
    side.pace(Pace(interval_ns=1_000_000))
    report = side.send_requests(requests(port_of(side.backend_url), stream=stream, rate_per_s=rate, count=40))
    assert report.outcomes.whole + report.skipped == 40 + report.skipped
    assert report.outcomes.lost == 0
    assert report.ttft_ms is not None
    assert report.ttft_ms.count == 40


def test_nobody_listens(side):
    with socketserver.TCPServer(("127.0.0.1", 0), socketserver.BaseRequestHandler) as closed:
        port = closed.server_address[1]
    assert side.open_streams(opened(port, 3)) == 0
    report = side.finish_streams(window(0), 20_000 * MS)
    assert report.outcomes.refused == 3
    assert "refused" in report.complaint


@contextmanager
def answering(answer: bytes):
    """Answer every request with the same bytes and close."""

    class Handler(socketserver.StreamRequestHandler):
        def handle(self):
            while self.rfile.readline().strip():
                pass
            self.wfile.write(answer)

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()


PIECES = chunks.StreamBytes(1)
ERROR_FRAME = chunks.http_chunk(b'data: {"error":{"message":"engine gone","code":502}}\n\n')
ANSWERS = {
    "cut": PIECES.opening() + PIECES.token(5),
    "refused": chunks.http_json(b'{"error":{"message":"busy"}}', "503 Service Unavailable"),
    "errored": PIECES.opening() + ERROR_FRAME + chunks.http_chunk(chunks.DONE) + chunks.LAST_CHUNK,
    "miscounted": PIECES.opening() + PIECES.token(5) + PIECES.ending(2, usage=False),
    "whole": PIECES.opening() + PIECES.token(5) + PIECES.ending(1, usage=True),
}


@pytest.mark.parametrize("outcome", sorted(ANSWERS))
def test_each_way_to_end_is_told_apart(side, outcome):
    with answering(ANSWERS[outcome]) as port:
        report = side.send_requests(requests(port, count=3))
    assert getattr(report.outcomes, outcome) == 3
    assert report.outcomes.lost == (0 if outcome == "whole" else 3)
    if outcome == "refused":
        assert "503" in report.complaint


def test_a_stream_without_end_is_unfinished(side):
    # No terminator and no close: the client gives up by its own deadline.
    side.pace(Pace(interval_ns=10_000_000))
    report = side.send_requests(
        requests(port_of(side.backend_url), max_tokens=10_000_000, count=1, seconds=0.2, deadline_s=0.2)
    )
    assert report.outcomes.unfinished == 1


def test_a_dead_load_process_is_an_error_and_not_a_hang(side):
    os.kill(side.pids[1], 9)
    with pytest.raises(LoadSideError, match="client"):
        side.send_requests(requests(port_of(side.backend_url)))


def test_leaving_ends_both_processes(tmp_path):
    with LoadSide({CPU}, tmp_path) as load_side:
        pids = load_side.pids
        assert proc.tree(pids) == frozenset(pids)
    assert proc.tree(pids) == frozenset()


SLEEPER = "import sys, time; print('up', flush=True); time.sleep(600)"
PARENT = f"""
import subprocess, sys
subprocess.Popen([sys.executable, "-c", {SLEEPER!r}], start_new_session=True)
import time; time.sleep(600)
"""


def wait_for(condition, what: str) -> None:
    deadline = time.monotonic() + 20_000 * MS
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.01)


def test_stopping_a_child_ends_what_has_left_its_group(tmp_path):
    log = tmp_path / "log"
    child = Child("parent", [sys.executable, "-c", PARENT], cpus={CPU}, log=log)
    try:
        wait_for(lambda: log.read_text() == "up\n", "the grandchild did not start")
        family = proc.tree([child.pid])
        assert len(family) == 2
    finally:
        child.stop()
    wait_for(lambda: not proc.tree(family), "a grandchild outlived the benchmark")


def test_a_child_does_not_outlive_a_killed_benchmark(tmp_path):
    bench = f"""
import sys
from pathlib import Path
from loadtest.relay.children import Child
child = Child("sleeper", [sys.executable, "-c", {SLEEPER!r}], cpus={{{CPU}}}, log=Path({str(tmp_path / "log")!r}))
print(child.pid, flush=True)
child.ended_within(600)
"""
    root = Path(__file__).resolve().parents[2]
    with subprocess.Popen([sys.executable, "-c", bench], stdout=subprocess.PIPE, text=True, cwd=root) as process:
        assert process.stdout is not None
        pid = int(process.stdout.readline())
        started = proc.start_ticks(pid)
        wait_for(lambda: (tmp_path / "log").read_text() == "up\n", "the child did not start")
        process.kill()
    wait_for(lambda: proc.start_ticks(pid) != started, "the child outlived the benchmark")
