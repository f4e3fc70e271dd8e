"""The ingress examples, run by their real programs before two edges: streams, resume, sockets, WHEP."""

from __future__ import annotations

import contextlib
import json
import re
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import pytest
from websockets.sync.client import connect

from loadtest.locust.signalling import offer
from tests.support import needs
from tests.support.exchange import Answer, Exchange, ask, chat, stream
from tests.support.processes import Running, running, until
from tests.support.rig import Rig, rig
from tests.support.timing import FACTOR

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]

EXAMPLES = Path(__file__).parents[2] / "docker" / "ingress"
TOKENS = 12
ITL_MS = 40
WHEP = "/v1/avatars/sim-face/whep"


class Node(NamedTuple):
    """A stream node of this test."""

    netloc: str
    ops_port: int


def node(site: Rig, name: str) -> Node:
    return Node(urlsplit(site.url_of(name)).netloc, urlsplit(site.ops_url(name)).port or 0)


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def adapted(name: str, port: int, nodes: list[Node]) -> str:
    """Return an example with two nodes, at the addresses of this test; nothing else is changed."""
    text = (EXAMPLES / name).read_text()
    for absent in ("10.0.0.45", "10.0.0.46"):
        text = re.sub(rf"^ *server .*{absent}.*\n| {absent}:7400", "", text, flags=re.MULTILINE)
    text = re.sub(r"(listen|bind) :?8080", rf"\g<1> 127.0.0.1:{port}", text)
    text = text.replace("\n:8080 {\n", f"\n:{port} {{\n\tbind 127.0.0.1\n")
    for address, here in zip(("10.0.0.43", "10.0.0.44"), nodes, strict=True):
        # The example's nodes have the same ops port; here each has its own.
        text = text.replace(f"{address}:7400 check port 7410", f"{here.netloc} check port {here.ops_port}")
        text = text.replace(f"{address}:7400", here.netloc)
    assert "10.0.0.4" not in text
    return text


def nginx(folder: Path, port: int, nodes: list[Node]) -> list[str]:
    (folder / "nginx.conf").write_text(adapted("nginx.conf", port, nodes))
    return [
        needs.program("nginx"),
        "-p",
        str(folder),
        "-e",
        "stderr",
        "-c",
        str(folder / "nginx.conf"),
        "-g",
        "daemon off; pid nginx.pid;",
    ]


def haproxy(folder: Path, port: int, nodes: list[Node]) -> list[str]:
    (folder / "haproxy.cfg").write_text(adapted("haproxy.cfg", port, nodes))
    return [needs.program("haproxy"), "-db", "-f", str(folder / "haproxy.cfg")]


def caddy(folder: Path, port: int, nodes: list[Node]) -> list[str]:
    text = adapted("Caddyfile", port, nodes)
    # Caddy asks one health port for all nodes; here each has its own, and its own test is below.
    text = re.sub(r"^\t\thealth_.*\n", "", text, flags=re.MULTILINE)
    text = text.replace("admin localhost:2019", f"admin localhost:{free_port()}")
    (folder / "Caddyfile").write_text(text)
    return [needs.program("caddy"), "run", "--config", str(folder / "Caddyfile"), "--adapter", "caddyfile"]


PROGRAMS: dict[str, Callable[[Path, int, list[Node]], list[str]]] = {
    "nginx": nginx,
    "haproxy": haproxy,
    "caddy": caddy,
}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    folder = tmp_path_factory.mktemp("site")
    settings = {"node": "n", "peer_dir": str(folder / "peers"), "region": "alpha"}
    ready = folder / "compositor.json"
    line = [sys.executable, "-m", "simulator.compositor", "--ready-file", str(ready)]
    with (
        running(line, folder, name="compositor", ready_file=ready) as compositor,
        rig(folder, {"alpha": {}}, without=("edge",)) as ours,
    ):
        settings["avatars.compositor_url"] = compositor.ready()["url"]
        ours.start_edge("edge", settings=settings)
        ours.start_edge("second", settings=settings)
        ours.wait_models("tiny")
        until(
            lambda: "tiny" in ask(ours.url_of("second"), "/v1/models").body.decode(), what="the second edge is ready"
        )
        yield ours


@pytest.fixture(scope="module", params=PROGRAMS)
def ingress(request: pytest.FixtureRequest, site: Rig, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """One ingress before both edges, by its address."""
    nodes = [node(site, "edge"), node(site, "second")]
    with started(request.param, nodes, tmp_path_factory.mktemp(request.param)) as url:
        yield url


@contextmanager
def started(name: str, nodes: list[Node], folder: Path) -> Iterator[str]:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    line = PROGRAMS[name](folder, port, nodes)
    home = {"HOME": str(folder), "XDG_DATA_HOME": str(folder), "XDG_CONFIG_HOME": str(folder)}
    with running(line, folder, name=name, environment=home) as ours:
        until(lambda: _answers(url, ours), ms=15_000, what=f"{name} answers: {ours.output()}")
        yield url


def _answers(url: str, ours: Running) -> bool:
    assert ours.process.poll() is None, ours.output()
    try:
        return ask(url, "/v1/models").status == 200
    except (OSError, AssertionError):
        return False


def events(body: bytes) -> dict[int, bytes]:
    found = re.findall(rb"id: ([0-9]+)\n(data: .*?\n\n)", body, re.DOTALL)
    return {int(number): event for number, event in found}


def test_tokens_arrive_one_by_one(ingress: str) -> None:
    with stream(ingress, f"tokens={TOKENS},ttft_ms=5,itl_ms={ITL_MS}") as client:
        begun = monotonic()
        answer = client.read()
    assert (answer.status, answer.done, answer.whole) == (200, True, True)
    assert answer.headers["content-type"].startswith("text/event-stream")
    # Held back, they would all come in the end; a busy machine may join two, never half of them.
    moments = [at for at, chunk in zip(answer.times, answer.chunks, strict=True) if b'"content"' in chunk]
    assert len(moments) > TOKENS // 2
    assert moments[0] - begun < moments[-1] - moments[0]
    assert moments[-1] - moments[0] > (TOKENS - 2) * ITL_MS / 1000 * 0.8


def test_a_client_that_leaves_stops_its_engine(ingress: str, site: Rig) -> None:
    with stream(ingress, "tokens=2000,itl_ms=20") as client:
        client.head()
        client.chunk()
    until(lambda: not site.stats()["running"], what="the engine stops")


def test_a_stream_is_resumed_whichever_edge_is_asked(ingress: str) -> None:
    with Exchange(ingress) as client:
        given = {"x-sim": "tokens=40,itl_ms=10", "x-headrace-resume": "30"}
        client.send("POST", "/v1/chat/completions", chat(stream=True), given)
        stream_id = client.head().headers["x-headrace-stream"]
        while client.answer.body.count(b"data:") < 5:
            client.chunk()
        first = client.answer.body
        client.reset()
    got = events(first)
    got |= events(resumed(ingress, stream_id, max(got)).body)
    # Asked as often as there are nodes and more, so that the one that has not got the stream is asked, too.
    again = [resumed(ingress, stream_id, 0) for _ in range(4)]
    assert list(got) == list(range(1, max(got) + 1))
    assert Answer(200, {}, [b"".join(got.values())]).done
    assert [events(answer.body) for answer in again] == 4 * [got]


def resumed(url: str, stream_id: str, after: int) -> Answer:
    def asked() -> Answer | None:
        with Exchange(url) as client:
            answer = client.send("GET", f"/v1/streams/{stream_id}", headers={"last-event-id": str(after)}).read()
        return answer if answer.status in (200, 204) else None

    return until(asked, what="the owner is found")


def test_a_socket_passes_with_its_origin(ingress: str, site: Rig) -> None:
    url = ingress.replace("http", "ws") + "/v1/ws"
    with connect(url, origin=ingress, subprotocols=["headrace.v1"], open_timeout=5 * FACTOR) as client:
        start = {"type": "start", "id": "a", "operation": "chat", "request": chat(stream=True), "sim": "tokens=3"}
        client.send(json.dumps(start))
        said: list[dict[str, Any]] = []
        while not said or said[-1]["type"] not in ("done", "error"):
            said.append(json.loads(client.recv(5 * FACTOR)))
        assert said[-1]["type"] == "done"
        assert said[0]["type"] == "started"


def test_a_body_over_the_limit_and_a_refusal_arrive_as_the_edge_says_them(ingress: str) -> None:
    refused = ask(ingress, "/v1/chat/completions", {"model": "nobody", "messages": []})
    assert (refused.status, refused.json["error"]["code"]) == (404, "model_not_found")
    assert refused.headers["x-request-id"]
    named = ask(ingress, "/v1/models", headers={"x-request-id": "seen-by-me"})
    assert named.headers["x-request-id"] == "seen-by-me"


def test_whep_passes_and_any_edge_takes_what_follows(ingress: str) -> None:
    given, kind = offer(), {"content-type": "application/sdp"}
    offered = ask(ingress, WHEP, given, method="POST", headers=kind)
    assert offered.status == 201, offered.body
    assert offered.headers["content-type"] == "application/sdp"
    assert offered.body.startswith(b"v=0")
    assert "urn:headrace:session" in offered.headers["link"]
    viewer, etag = offered.headers["location"], offered.headers["etag"]
    ufrag = next(line for line in given.splitlines() if line.startswith(b"a=ice-ufrag:"))
    piece = ufrag + b"\r\na=mid:0\r\na=candidate:9 1 udp 1 127.0.0.1 9 typ host\r\n"
    # As often as there are edges and more: one of them has the viewer, and the other asks it.
    for tag, status in (('"another"', 412), (etag, 204), ('"another"', 412), (etag, 204)):
        # A 204 has no length: its end is the connection's.
        trickled = {"content-type": "application/trickle-ice-sdpfrag", "if-match": tag, "connection": "close"}
        assert ask(ingress, viewer, piece, method="PATCH", headers=trickled).status == status
    assert ask(ingress, viewer, method="DELETE").status == 200
    assert ask(ingress, viewer, method="DELETE").status in (200, 404, 410), "again, by the edge that has not got it"
    assert ask(ingress, WHEP, b"{}", method="POST", headers={"content-type": "application/json"}).status == 415


def test_a_node_that_is_gone_is_left_out(site: Rig, tmp_path: Path) -> None:
    """HAProxy asks /readyz: once it has seen that a node is down, no request goes there."""
    needs.program("haproxy")
    site.start_edge("third", settings={"node": "m", "region": "alpha"})
    with started("haproxy", [node(site, "edge"), node(site, "third")], tmp_path) as url:
        site.kill("third")
        until(
            lambda: all(ask(url, "/v1/models").status == 200 for _ in range(6)), what="only the living node is asked"
        )


def test_a_node_that_drains_is_left_before_it_closes_and_no_request_notices(site: Rig, tmp_path: Path) -> None:
    """By the example's own patience, two looks a second apart, and the settle_ms of docs/operations/drain.md."""
    needs.program("haproxy")
    site.start_edge("fourth", settings={"node": "d", "region": "alpha", "settle_ms": 5_000, "drain_ms": 5_000})
    draining = site.services["fourth"]
    with (
        started("haproxy", [node(site, "edge"), node(site, "fourth")], tmp_path) as url,
        contextlib.ExitStack() as stack,
    ):
        # Fewest connections first: two of these are at each node.
        streams = [stack.enter_context(stream(url, "tokens=75,itl_ms=40")) for _ in range(4)]
        for client in streams:
            client.head()
        draining.send(signal.SIGTERM)
        statuses = set()
        while draining.process.poll() is None:
            with stream(url, "tokens=3,itl_ms=5") as client:
                answer = client.read()
            statuses.add((answer.status, answer.done, bool(answer.errors)))
        assert statuses == {(200, True, False)}
        assert [client.rest().done for client in streams] == [True] * 4


def test_every_example_names_the_same_nodes() -> None:
    for name in ("nginx.conf", "haproxy.cfg", "Caddyfile", "envoy.yaml"):
        text = (EXAMPLES / name).read_text()
        assert all(f"10.0.0.{host}" in text for host in (43, 44, 45, 46)), name
