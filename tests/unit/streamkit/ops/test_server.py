from __future__ import annotations

import contextlib
import http.client
import json
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from streamkit.ops.listener import BindError, Listener, bound, shown_url
from streamkit.ops.server import write_ready_file
from tests.support.processes import Running, running, until
from tests.support.timing import SOON_S

PROGRAM = Path(__file__).with_name("sample_service.py")
Start = Callable[..., Running]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    with contextlib.ExitStack() as stack:

        def begin(**wanted: object) -> Running:
            ready = tmp_path / "ready.json"
            line = [sys.executable, str(PROGRAM), json.dumps(wanted), str(ready)]
            return stack.enter_context(running(line, tmp_path, name="sample", ready_file=ready))

        yield begin


def connect(url: str) -> http.client.HTTPConnection:
    parts = urlsplit(url)
    return http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=10)


def get(url: str, path: str) -> tuple[int, bytes]:
    connection = connect(url)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def accepts(url: str) -> bool:
    parts = urlsplit(url)
    try:
        socket.create_connection((parts.hostname or "", parts.port or 0), timeout=1).close()
    except OSError:
        return False
    return True


def test_it_serves_says_where_and_stops(start: Start):
    service = start()
    ready = service.ready()
    assert ready["name"], ready["kind"] == ("sample", "test")
    assert ready["pid"] == service.pid
    assert ready["more"] == 1
    assert get(ready["url"], "/hello") == (200, b"hello")
    status, body = get(ready["ops_url"], "/readyz")
    assert (status, json.loads(body)) == (200, {"ready": True, "state": "ready", "reasons": {}})
    assert json.loads(get(ready["ops_url"], "/healthz")[1])["alive"]
    assert get(ready["ops_url"], "/metrics") == (200, b"# none\n")
    assert get(ready["url"], "/healthz")[0] == 404
    began = time.monotonic()
    service.send(signal.SIGTERM)
    assert service.wait() == 0
    assert time.monotonic() - began < SOON_S
    assert "lifespan ended" in service.output()
    assert not (service.ready_file or Path()).exists()


def test_headers_name_no_server_and_carry_the_date(start: Start):
    connection = connect(start().ready()["url"])
    connection.request("GET", "/hello")
    answer = connection.getresponse()
    assert answer.getheader("server") is None
    assert answer.getheader("date")
    connection.close()


def test_the_collector_is_frozen_and_not_off(start: Start):
    figures = json.loads(get(start().ready()["url"], "/memory")[1])
    assert figures["frozen"] > 1_000
    assert figures["threshold"] >= 10_000
    assert figures["on"]


def test_an_answer_under_way_is_finished_and_new_connections_are_not_taken(start: Start):
    service = start()
    url = service.ready()["url"]
    busy = connect(url)
    busy.request("GET", "/slow?ms=700")
    service.send(signal.SIGTERM)
    until(lambda: not accepts(url), what="it stops accepting")
    answer = busy.getresponse()
    assert (answer.status, answer.read()) == (200, b"done")
    busy.close()
    assert service.wait() == 0


def test_an_idle_connection_is_closed_at_drain(start: Start):
    service = start()
    idle = connect(service.ready()["url"])
    idle.request("GET", "/hello")
    idle.getresponse().read()
    service.send(signal.SIGTERM)
    assert idle.sock.recv(1) == b""
    idle.close()
    assert service.wait() == 0


def test_while_it_settles_it_is_unready_and_still_takes_work(start: Start):
    service = start(settle_ms=30_000)
    ready = service.ready()
    service.send(signal.SIGTERM)
    until(lambda: get(ready["ops_url"], "/readyz")[0] == 503)
    assert json.loads(get(ready["ops_url"], "/readyz")[1])["reasons"] == {"lifecycle": "draining"}
    assert get(ready["ops_url"], "/healthz")[0] == 200
    assert get(ready["url"], "/hello") == (200, b"hello")
    service.send(signal.SIGTERM)
    assert service.wait() == 0


def test_what_is_left_at_the_deadline_is_cut(start: Start):
    service = start(drain_ms=200)
    stream = connect(service.ready()["url"])
    stream.request("GET", "/endless")
    answer = stream.getresponse()
    answer.read(5)
    service.send(signal.SIGTERM)
    with pytest.raises((http.client.IncompleteRead, ConnectionError)):
        answer.read()
    stream.close()
    assert service.wait() == 0
    assert "serve.cut" in service.output()


def test_a_second_signal_cuts_at_once(start: Start):
    service = start(drain_ms=600_000)
    stream = connect(service.ready()["url"])
    stream.request("GET", "/endless")
    stream.getresponse().read(5)
    service.send(signal.SIGTERM)
    until(lambda: "drain began" in service.output())
    service.send(signal.SIGINT)
    assert service.wait() == 0
    stream.close()


def test_work_without_a_connection_is_waited_for(start: Start):
    service = start()
    assert get(service.ready()["url"], "/detached?ms=500") == (200, b"begun")
    service.send(signal.SIGTERM)
    assert service.wait() == 0
    assert "detached work finished" in service.output()


def test_a_reader_of_events_does_not_hold_up_the_end(start: Start):
    service = start()
    ready = service.ready()
    reader = connect(ready["ops_url"])
    reader.request("GET", "/v1/events")
    answer = reader.getresponse()
    assert answer.getheader("content-type", "").startswith("text/event-stream")

    def heard() -> bytes:
        get(ready["url"], "/publish")
        return answer.readline()

    assert until(heard).startswith(b"id: ")
    assert answer.readline() == b"event: said\n"
    assert answer.readline() == b'data: {"n":1}\n'
    service.send(signal.SIGTERM)
    assert service.wait() == 0
    reader.close()
    assert "Traceback" not in service.output()


def test_idle_connections_are_closed_after_their_time(start: Start):
    idle = connect(start(keep_alive_ms=50).ready()["url"])
    idle.request("GET", "/hello")
    idle.getresponse().read()
    assert idle.sock.recv(1) == b""
    idle.close()


def test_a_taken_port_is_one_line_and_two(start: Start):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        service = start(port=port)
        assert service.wait() == 2
    assert service.output() == f"sample: cannot listen on 127.0.0.1:{port}: Address already in use\n"


def test_an_application_that_fails_to_start_is_one(start: Start):
    service = start(fail="start")
    assert service.wait() == 1
    assert "no good" in service.output()


def test_a_signal_ends_a_start_that_hangs(start: Start):
    service = start(fail="hang")
    until(lambda: "hanging" in service.output())
    service.send(signal.SIGTERM)
    assert service.wait() == 0


async def _app(*_: object) -> None:
    return


def test_every_address_of_a_name_has_the_same_port():
    listener = Listener(app=_app, host="localhost")
    with bound(listener) as sockets:
        assert len({sock.getsockname()[1] for sock in sockets}) == 1
        assert shown_url(listener, sockets[0]).startswith("http://127.0.0.1:")


def test_all_addresses_are_shown_as_one_that_can_be_opened():
    listener = Listener(app=_app, host="::1")
    if not socket.has_ipv6:
        pytest.skip("needs IPv6, which this Python lacks")
    with contextlib.suppress(BindError), bound(listener) as sockets:
        assert shown_url(listener, sockets[0]).startswith("http://[::1]:")


def test_a_name_without_an_address_is_a_clear_line():
    with (
        pytest.raises(BindError, match=r"^cannot listen on nowhere\.invalid:1: "),
        bound(Listener(app=_app, host="nowhere.invalid", port=1)),
    ):
        pass


def test_a_ready_file_appears_whole(tmp_path: Path):
    path = tmp_path / "ready.json"
    write_ready_file(path, {"a": 1})
    write_ready_file(path, {"a": 2})
    assert json.loads(path.read_text()) == {"a": 2}
    assert [entry.name for entry in tmp_path.iterdir()] == ["ready.json"]
