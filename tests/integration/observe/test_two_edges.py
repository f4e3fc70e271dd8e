"""One control, two real edges, two backends: a backend that everybody finds sick, and a way that only one edge does.

Every edge finds paths through itself only, at its own moments; users ask both all the time, and what is measured is
when the last of them met the sick backend, and when they were back.
"""

from __future__ import annotations

import contextlib
import signal
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from streamkit.wire.telemetry import EVENTS, Event
from tests.support.chaos import Chaos, chaos
from tests.support.exchange import ask
from tests.support.exchange import chat as body
from tests.support.observe import observing, served, stored
from tests.support.processes import Running, until
from tests.support.rig import Rig, rig
from tests.support.timing import FACTOR

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]
NODES = ("north", "south")
#: The defaults are four times as slow; the counts are the same.
PROBER = {"every_ms": 500, "timeout_ms": int(700 * FACTOR), "ttft_floor_ms": int(500 * FACTOR)}
#: Of the issue, in seconds: found and acted on; users back.
FOUND_S, BACK_S = 10.0, 30.0


@contextlib.contextmanager
def split_horizon(control: str, inside: str, outside: str) -> Iterator[str]:
    """Answer as control does, but name another address of a backend: as a name that is another host elsewhere."""

    class Forward(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            sent = self.rfile.read(int(self.headers["content-length"]))
            request = urllib.request.Request(control + self.path, sent, {"content-type": "application/json"})
            try:
                with urllib.request.urlopen(request, timeout=30) as answer:
                    status, text = answer.status, answer.read()
            except urllib.error.HTTPError as error:
                status, text = error.code, error.read()
            except OSError:  # control is away
                self.close_connection = True
                return
            text = text.replace(inside.encode(), outside.encode())
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(text)))
            with contextlib.suppress(ConnectionError):  # an edge that is stopped while it waits for news
                self.end_headers()
                self.wfile.write(text)

        def log_message(self, *_: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Forward)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), name="split horizon")
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join(10)
        server.server_close()


@dataclass
class Users:
    """Somebody who asks an edge again and again: when he began, who served him."""

    url: str
    asked: list[tuple[float, str]] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    over: threading.Event = field(default_factory=threading.Event)

    def ask_on(self) -> None:
        while not self.over.wait(0.03):
            began = time.monotonic()
            answer = ask(self.url, "/v1/chat/completions", body(max_tokens=2))
            if answer.status == 200:
                self.asked.append((began, answer.headers["x-headrace-backend"]))
            else:
                self.failed.append(f"{answer.status} {answer.body[:200]!r}")

    def last_at(self, backend: str) -> float:
        return max((at for at, name in self.asked if name == backend), default=0.0)

    def served_by(self) -> str:
        return self.asked[-1][1] if self.asked else ""


@dataclass
class Fleet:
    rig: Rig
    nats: str
    centre: Running
    #: On the way from the south's edge to alpha.
    way: Chaos
    users: Mapping[str, Users]

    def held(self) -> dict[str, Any]:
        lines = ask(self.rig.url_of("control"), "/v1/backends").json["data"]
        return {line["name"]: (line["held"], tuple(line["held_nodes"])) for line in lines}

    def heeded(self) -> set[str]:
        """Return which edges say that they leave alpha alone."""
        mine = ("headrace_backend_held", frozenset({("backend", "alpha")}))
        return {node for node in NODES if self.rig.metrics(node).get(mine) == 1.0}

    def events(self, after: int = 0) -> list[tuple[int, Event]]:
        return [(at, event) for at, event in stored(self.nats, EVENTS) if at > after]

    def fault(self, name: str | None) -> None:
        assert ask(self.rig.url_of("alpha"), "/sim/fault", {"fault": name}).status == 200


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    folder = tmp_path_factory.mktemp("fleet")
    with contextlib.ExitStack() as stack:
        broker = stack.enter_context(served(folder, "here"))
        ours = stack.enter_context(rig(folder, control={"nats_url": broker.url}, without=("edge",)))
        alpha, control = ours.url_of("alpha"), ours.url_of("control")
        way = stack.enter_context(chaos(alpha, folder))
        elsewhere = stack.enter_context(split_horizon(control, alpha, way.url))
        for node, url in zip(NODES, (control, elsewhere), strict=True):
            ours.start_edge(node, control_url=url, settings={"node": node, "region": "alpha"})
        until(lambda: ask(control, "/v1/backends").body.count(b'"up"') == 2)
        centre = stack.enter_context(
            observing(
                folder, "observe", site="here", nats_url=broker.url,
                feeds=[*(f"{node}={ours.ops_url(node)}" for node in NODES), f"control={ours.ops_url('control')}"],
                prober={**PROBER, "edges": [ours.url_of(node) for node in NODES], "control_url": control},
                healing={"mode": "on", "restart_after_ms": 0, "pause_ms": 3_000},
            )
        )  # fmt: skip
        users = {node: Users(ours.url_of(node)) for node in NODES}
        threads = [threading.Thread(target=one.ask_on, name=node) for node, one in users.items()]
        for thread in threads:
            thread.start()
        try:
            page = str(centre.ready()["url"])
            until(
                lambda: sum(path["usual_ttft_ms"] is not None for path in ask(page, "/v1/paths").json) == 4,
                ms=20_000, what="it knows all four paths",
            )  # fmt: skip
            yield Fleet(ours, broker.url, centre, way, users)
        finally:
            for one in users.values():
                one.over.set()
            for thread in threads:
                thread.join(30)


def all_at(fleet: Fleet, backend: str, *nodes: str) -> bool:
    return all(fleet.users[node].served_by() == backend for node in nodes)


def probes(fleet: Fleet, result: str) -> float:
    """Return how many probes of the south's edge ended so."""
    page = ask(str(fleet.centre.ready()["ops_url"]), "/metrics").body.decode()
    edge = fleet.rig.url_of("south")
    rows = [row for row in page.splitlines() if f'edge="{edge}"' in row and f'result="{result}"' in row]
    return sum(float(row.split()[-1]) for row in rows)


def test_a_way_that_only_one_edge_finds_sick_is_left_by_that_one(fleet: Fleet):
    until(lambda: all_at(fleet, "alpha", *NODES), what="alpha serves everybody")
    before = max((at for at, _ in fleet.events()), default=0)
    began = time.monotonic()
    fleet.way.set({"toxic": "latency", "ms": 900 * FACTOR})
    until(lambda: fleet.held().get("alpha") == (False, ("south",)), ms=int(FOUND_S * 1_000), what="the south's way")
    found_s = time.monotonic() - began
    until(lambda: all_at(fleet, "beta", "south"), what="the south's users are elsewhere")
    assert fleet.heeded() == {"south"}
    assert all_at(fleet, "alpha", "north"), "the north goes on as before"
    fleet.way.clear()
    well = time.monotonic()
    until(lambda: all_at(fleet, "alpha", "south"), ms=int(BACK_S * 1_000), what="the south's users are back")
    back_s = time.monotonic() - well
    north = [name for at, name in fleet.users["north"].asked if at > began]
    assert set(north) == {"alpha"}, "nobody took the backend from the north"

    def told() -> list[tuple[str, str, str]]:
        kinds = ("healing", "backend.held", "backend.released")
        return [
            (event.source, event.kind, event.fields["node"])
            for _, event in fleet.events(before)
            if event.kind.startswith(kinds)
        ]

    until(lambda: len(told()) >= 6, what="all of it is told")
    assert set(told()) == {
        ("observe", "healing.hold", "south"),
        ("control", "backend.held", "south"),
        ("south", "backend.held", "south"),
        ("observe", "healing.release", "south"),
        ("control", "backend.released", "south"),
        ("south", "backend.released", "south"),
    }
    print(f"one way: held for its node after {found_s:.1f} s, back {back_s:.1f} s after it was well")


def test_a_backend_that_both_find_sick_is_left_by_both_and_gets_its_users_back(fleet: Fleet):
    until(lambda: all_at(fleet, "alpha", *NODES), what="alpha serves everybody")
    failed = {node: len(fleet.users[node].failed) for node in NODES}
    began = time.monotonic()
    fleet.fault("slow")
    until(lambda: fleet.held().get("alpha", (False,))[0], ms=int(FOUND_S * 1_000), what="held everywhere")
    found_s = time.monotonic() - began
    until(lambda: fleet.heeded() == set(NODES) and all_at(fleet, "beta", *NODES), what="both have left it")
    # However long one of them finds it sick before the other, nobody is sent there again meanwhile.
    left = {node: fleet.users[node].last_at("alpha") for node in NODES}
    until(lambda: fleet.held() == {"alpha": (True, ()), "beta": (False, ())}, what="one hold for all of them")
    rest = time.monotonic()
    until(lambda: len([at for at, _ in fleet.users["north"].asked if at > rest]) > 20)
    assert {node: fleet.users[node].last_at("alpha") for node in NODES} == left
    fleet.fault(None)
    well = time.monotonic()
    until(lambda: all_at(fleet, "alpha", *NODES), ms=int(BACK_S * 1_000), what="users are back")
    back_s = time.monotonic() - well
    assert fleet.heeded() == set()
    assert {node: len(fleet.users[node].failed) for node in NODES} == failed, "nobody was refused"
    times = {node: round(at - began, 1) for node, at in left.items()}
    print(f"both ways: held after {found_s:.1f} s, last met at {times}, back {back_s:.1f} s after it was well")


def test_an_edge_that_is_stopped_is_no_sickness_of_its_backends(fleet: Fleet):
    until(lambda: all_at(fleet, "alpha", *NODES), what="alpha serves everybody")
    page, south = str(fleet.centre.ready()["url"]), fleet.rig.services["south"]

    def unasked() -> bool:
        results = [path["result"] for path in ask(page, "/v1/paths").json if path["node"] == "south"]
        return results == ["unasked"] * 2

    before = max(at for at, _ in fleet.events())
    south.send(signal.SIGSTOP)
    try:
        until(unasked, what="nobody knows of the south's ways")
        until(lambda: probes(fleet, "unasked") >= 8, ms=20_000, what="long enough for a failing path to be sick")
    finally:
        south.send(signal.SIGCONT)
    until(lambda: not unasked(), what="it is asked again")
    assert fleet.held() == {"alpha": (False, ()), "beta": (False, ())}
    assert not [event for _, event in fleet.events(before) if event.kind in ("path.sick", "healing.hold")]


def test_edges_end_a_hold_by_themselves_when_control_is_silent_for_as_long_as_it_was_to_last(fleet: Fleet):
    until(lambda: all_at(fleet, "alpha", *NODES), what="alpha serves everybody")
    hold = {"backend": "alpha", "ttl_ms": int(4_000 * FACTOR), "why": "by hand"}
    assert ask(fleet.rig.url_of("control"), "/v1/holds", hold).status == 200
    until(lambda: fleet.heeded() == set(NODES) and all_at(fleet, "beta", *NODES), what="both heed it")
    fleet.rig.kill("control")
    until(lambda: fleet.heeded() == set() and all_at(fleet, "alpha", *NODES), ms=20_000, what="it is over")
    fleet.rig.start_control()
    until(lambda: fleet.held() == {"alpha": (False, ()), "beta": (False, ())}, what="control knows of none")
