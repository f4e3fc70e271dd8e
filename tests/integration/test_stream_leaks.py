"""After a storm everything is as it was before: descriptors, permits, streams, buffered bytes, tasks, memory."""

from __future__ import annotations

import contextlib
import random
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.support.exchange import Exchange, chat, stream
from tests.support.processes import until
from tests.support.rig import Rig, ms, rig

REQUESTS = 300
AT_A_TIME = 24


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    edge = {
        "commit_after_ms": ms(150),
        "heartbeat_ms": ms(100),
        "first_event_ms": ms(500),
        "idle_ms": ms(400),
        "response_ms": ms(600),
        "pool_idle_ms": 200,
        "keep_alive_ms": 200,
        "breaker_open_ms": 100,
    }
    with rig(tmp_path_factory.mktemp("storm"), edge=edge) as ours:
        yield ours


def descriptors(site: Rig) -> Counter[str]:
    """Return the edge's open descriptors by kind; sockets to control come and go and are not told apart."""
    folder = Path(f"/proc/{site.services['edge'].pid}/fd")
    kinds: Counter[str] = Counter()
    for entry in folder.iterdir():
        with contextlib.suppress(FileNotFoundError):
            kinds[entry.readlink().as_posix().split(":")[0]] += 1
    return kinds


def good(url: str) -> None:
    with stream(url, "tokens=8") as client:
        assert client.read().status in (200, 429, 502, 503)


def whole(url: str) -> None:
    with Exchange(url) as client:
        client.send("POST", "/v1/chat/completions", chat(), {"x-sim": "tokens=8"}).read()


def kept(url: str) -> None:
    with Exchange(url) as client:
        for _ in range(3):
            client.send("POST", "/v1/chat/completions", chat(stream=True), {"x-sim": "tokens=2"}).read()


def cancelled(url: str) -> None:
    with stream(url, "tokens=5000,itl_ms=5") as client:
        client.head()
        if client.answer.status == 200:
            client.chunk()


def reset(url: str) -> None:
    with stream(url, "tokens=5000,itl_ms=5") as client:
        client.head()
        client.reset()


def never_read(url: str) -> None:
    with stream(url, "ttft_ms=20000"):
        pass


def left_whole(url: str) -> None:
    with Exchange(url) as client:
        client.send("POST", "/v1/chat/completions", chat(), {"x-sim": "tokens=5000,itl_ms=5"})


def failing(url: str) -> None:
    sim = random.choice(
        ["die_after=0", "die_after=3", "eof_after=3", "error_first=true", "status=500", "garbage=json"]
    )
    with stream(url, f"tokens=6,{sim}") as client:
        client.read()


def slow(url: str) -> None:
    sim = random.choice(["ttft_ms=250", "stall_after=0", "stall_after=3", "stall_headers=true"])
    with stream(url, f"tokens=4,{sim}") as client:
        client.read()


def refused(url: str) -> None:
    for body in (b"{", b'{"model": "tiny"}', b'{"model": "nobody", "messages": []}'):
        with Exchange(url) as client:
            assert client.send("POST", "/v1/chat/completions", body).read().status in (400, 404, 429, 502, 503)


def resumable(url: str, sim: str) -> Exchange:
    """Return a resumable stream whose head and first event, if there is a stream at all, were read."""
    client = Exchange(url)
    client.send("POST", "/v1/chat/completions", chat(stream=True), {"x-sim": sim, "x-headrace-resume": "1"})
    client.head()
    if client.answer.status == 200:
        client.chunk()
    return client


def come_back(url: str, stream_id: str, method: str = "GET") -> None:
    with Exchange(url) as client:
        client.send(method, f"/v1/streams/{stream_id}", headers={"last-event-id": "1"} if method == "GET" else None)
        assert client.read().status in (200, 204, 400, 410)


def abandoned(url: str) -> None:
    with resumable(url, "tokens=5000,itl_ms=5") as client:
        client.reset()


def resumed(url: str) -> None:
    with resumable(url, "tokens=20,itl_ms=5") as client:
        stream_id = client.answer.headers.get("x-headrace-stream")
    if stream_id is not None:
        come_back(url, stream_id)


def taken_over(url: str) -> None:
    with resumable(url, "tokens=20,itl_ms=5") as client:
        if client.answer.status == 200:
            come_back(url, client.answer.headers["x-headrace-stream"])
            client.rest()


def stopped(url: str) -> None:
    with resumable(url, "tokens=5000,itl_ms=5") as client:
        if client.answer.status == 200:
            come_back(url, client.answer.headers["x-headrace-stream"], "DELETE")


def half_sent(url: str) -> None:
    with Exchange(url) as client:
        head = b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
        client.socket.sendall(head + b"content-length: 5000\r\n\r\n" + b"{" * 500)


KINDS: list[Callable[[str], None]] = [
    *(good, good, whole, kept, cancelled, cancelled, reset, never_read, left_whole, failing, failing, slow),
    *(refused, half_sent, abandoned, resumed, taken_over, stopped),
]


@pytest.mark.slow
def test_a_storm_leaves_nothing_behind(site: Rig) -> None:
    url = site.url

    def settled() -> bool:
        site.wait_quiet()
        return site.metric("headrace_upstream_connections") == 0

    def storm(count: int, seed: int) -> None:
        chance = random.Random(seed)
        kinds = [chance.choice(KINDS) for _ in range(count)]
        with ThreadPoolExecutor(AT_A_TIME) as crowd:
            for done in [crowd.submit(kind, url) for kind in kinds]:
                done.result()

    # The first wave makes what is made once: pools, series, code paths.
    storm(60, seed=1)
    until(settled, what="idle connections to the engines are given up")
    before, seen = descriptors(site), site.metric("headrace_streams_total")
    memory = site.metric("process_resident_memory_bytes")

    storm(REQUESTS, seed=2)
    site.wait_quiet()
    assert site.metric("headrace_streams_total") >= seen + REQUESTS // 2

    until(settled, what="idle connections to the engines are given up")
    # Long polls and probes of control may hold a connection more or less.
    until(lambda: descriptors(site).total() <= before.total() + 2, what=f"{before}, {descriptors(site)}")
    assert site.held() == {}
    assert site.metric("process_resident_memory_bytes") < memory + 16 * 1024 * 1024

    ended = site.metrics()
    outcomes = {
        dict(labels)["outcome"]
        for (name, labels), value in ended.items()
        if name == "headrace_streams_total" and value
    }
    assert outcomes == {"finished", "failed", "cancelled", "expired"}, "the storm was mixed"
    assert site.metric("headrace_resumes_total") > 0
    assert site.metric("headrace_takeovers_total") > 0
    assert site.metric("headrace_streams_kept") == 0
    assert site.metric("headrace_streams_total", outcome="finished") > REQUESTS // 4
    assert site.metric("headrace_streams_total", code="no_backend") < REQUESTS // 4, "the breakers took little away"
    # Each request is logged once, and nothing else was: no exception anywhere.
    lines = site.lines()
    assert len({line["request_id"] for line in lines}) == len(lines) == site.metric("headrace_streams_total")
    log = site.services["edge"].output()
    assert "Traceback" not in log
    assert '"level":"error"' not in log
    # And it still works.
    until(lambda: site.post(chat(), {"x-sim": "tokens=2"}).status == 200, what="it serves")
