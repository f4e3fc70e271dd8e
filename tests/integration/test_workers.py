"""Several workers behind one port: spread, brought back, and replaced one by one while requests go on."""

from __future__ import annotations

import os
import re
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import pytest

from tests.support.exchange import Answer, Exchange, ask, chat, stream
from tests.support.processes import alive, until
from tests.support.rig import Rig, ms, rig

pytestmark = pytest.mark.slow


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Rig]:
    with rig(tmp_path, {"alpha": {}}, edge={"workers": 2, "drain_ms": ms(5_000)}) as ours:
        until(lambda: live_edges(ours) == 2, what="control knows both workers")
        yield ours


def workers(site: Rig) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = site.services["edge"].ready()["workers"]
    return found


def live_edges(site: Rig) -> int:
    route = ask(site.url_of("control"), "/v1/route", {"model": "tiny"}).json
    return int(route["candidates"][0]["live_edges"])


class Load:
    """Requests on fresh connections, one after the other, until told to stop."""

    def __init__(self, site: Rig) -> None:
        self.answers: list[int] = []
        self.failures: list[str] = []
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(site,)) for _ in range(4)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    def _run(self, site: Rig) -> None:
        url = site.url
        while not self._over.is_set():
            try:
                with stream(url, "tokens=5") as one:
                    answer = one.read()
                self.answers.append(answer.status)
                if answer.status != 200 or not answer.done or answer.errors:
                    self.failures.append(f"{answer.status} {answer.body!r}")
            except OSError as error:
                self.failures.append(repr(error))


def test_connections_are_spread_over_all_workers(site: Rig) -> None:
    def served() -> list[float]:
        for _ in range(8):
            assert site.post(chat(), {"x-sim": "tokens=1"}).status == 200
        return [_streams(worker["ops_url"]) for worker in workers(site)]

    until(lambda: all(served()), what="both workers have served")
    first, second = workers(site)
    assert first["pid"] != second["pid"]
    assert site.services["edge"].pid not in (first["pid"], second["pid"])


def test_a_worker_that_is_killed_comes_back_and_the_others_serve_meanwhile(site: Rig) -> None:
    before = {worker["worker"]: worker["pid"] for worker in workers(site)}
    os.kill(before[1], signal.SIGKILL)
    until(lambda: {w["worker"]: w["pid"] for w in workers(site)}[1] != before[1], what="another life of worker 1")
    after = {worker["worker"]: worker["pid"] for worker in workers(site)}
    assert after[0] == before[0], "its neighbour went on"
    for _ in range(20):
        assert site.post(chat(), {"x-sim": "tokens=1"}).status == 200
    until(lambda: live_edges(site) == 2, what="the dead instance is forgotten")


def test_a_reload_under_load_fails_no_request(site: Rig) -> None:
    before = {worker["pid"] for worker in workers(site)}
    with Load(site) as load:
        until(lambda: len(load.answers) > 20)
        site.services["edge"].send(signal.SIGHUP)
        until(lambda: site.lines("workers.reloaded"), ms=20_000, what="both workers replaced")
        until(lambda: not any(map(alive, before)), ms=20_000, what="their predecessors have drained")
        seen = len(load.answers)
        until(lambda: len(load.answers) > seen + 20)
    assert load.failures == []
    assert not before & {worker["pid"] for worker in workers(site)}


def test_a_stream_under_way_outlives_the_reload_of_its_worker(site: Rig) -> None:
    before = {worker["pid"] for worker in workers(site)}
    with stream(site.url, "tokens=80,itl_ms=20") as one:
        one.head()
        one.until(b'"content"')
        site.services["edge"].send(signal.SIGHUP)
        until(lambda: site.lines("workers.reloaded"), ms=20_000)
        answer = one.rest()
    assert answer.done
    assert answer.errors == []
    assert len(answer.frames) == 80 + 1
    until(lambda: not any(map(alive, before)), ms=20_000)


def test_a_bad_file_is_refused_and_the_workers_stay(site: Rig) -> None:
    before = {worker["pid"] for worker in workers(site)}
    file = site.folder / "headrace.toml"
    good = file.read_text()
    file.write_text(good.replace("[edge]", "[edge]\nheartbeat_msec = 5"))
    site.services["edge"].send(signal.SIGHUP)
    (line,) = until(lambda: site.lines("workers.reload_refused"))
    assert "heartbeat_msec" in line["reason"]
    assert {worker["pid"] for worker in workers(site)} == before
    file.write_text(good)
    site.services["edge"].send(signal.SIGHUP)
    until(lambda: site.lines("workers.reloaded"), ms=20_000, what="a mended file is taken")


def test_sigterm_drains_every_worker_and_a_lost_supervisor_leaves_none(site: Rig) -> None:
    edge = site.services["edge"]
    pids = [worker["pid"] for worker in workers(site)]
    with stream(site.url, "tokens=30,itl_ms=10") as one:
        one.head()
        one.until(b'"content"')
        edge.send(signal.SIGTERM)
        assert one.rest().done
    assert edge.wait(ms=10_000) == 0
    assert not any(map(alive, pids))
    site.start_edge()
    pids = [worker["pid"] for worker in workers(site)]
    site.kill("edge")
    until(lambda: not any(map(alive, pids)), what="workers end with their supervisor")


def test_a_taken_port_is_one_line_and_status_2(site: Rig, tmp_path: Path) -> None:
    port = site.url.rsplit(":", 1)[1]
    folder = tmp_path / "second"
    folder.mkdir()
    with rig(folder, {"beta": {}}, edge={"workers": 2}, without=["edge"]) as second:
        second._start("edge", "edge", "--port", port, "--ops-port", "0")
        assert second.services["edge"].wait() == 2
        assert f":{port}" in second.services["edge"].output()


def _streams(ops_url: str) -> float:
    page = ask(ops_url, "/metrics").body.decode()
    lines = [line for line in page.splitlines() if line.startswith("headrace_streams_total{")]
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines)


def test_a_reload_loses_no_resumable_stream(site: Rig) -> None:
    """Each client drops its connection and comes back through the shared port, to whichever worker that leads to."""
    url, sim = site.url, "tokens=60,itl_ms=20"
    before = {worker["pid"] for worker in workers(site)}
    with stream(url, sim) as one:
        whole = one.read().text
    parts: list[tuple[str, bytes]] = []
    for _ in range(6):
        with Exchange(url) as client:
            client.send("POST", "/v1/chat/completions", chat(stream=True), {"x-sim": sim, "x-headrace-resume": "30"})
            stream_id = client.head().headers["x-headrace-stream"]
            client.until(b'"content"')
            parts.append((stream_id, client.answer.body))
            client.reset()
    site.services["edge"].send(signal.SIGHUP)
    until(lambda: site.lines("workers.reloaded"), ms=20_000, what="both workers replaced")
    for stream_id, first in parts:
        got = first.count(b"\ndata: ")
        with Exchange(url) as client:
            rest = client.send("GET", f"/v1/streams/{stream_id}", headers={"last-event-id": str(got)}).read()
        assert rest.status == 200, rest.body
        joined = Answer(200, {}, [re.sub(rb"(?m)^id: [0-9]+\n|^: ping\n", b"", first + rest.body)])
        assert joined.done
        assert joined.errors == []
        assert joined.text == whole
    until(lambda: not any(map(alive, before)), ms=20_000, what="their predecessors have drained")
