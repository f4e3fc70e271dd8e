"""An edge that is told to stop: running streams finish, new ones are refused, what takes too long is cut honestly."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
from collections.abc import Iterator
from time import monotonic
from urllib.parse import urlsplit

import pytest

from tests.support.exchange import Exchange, ask, chat, stream
from tests.support.gateway import start_gateway
from tests.support.processes import alive, until
from tests.support.rig import Rig, ms, rig

#: Longer than any stream here takes on the slowest machine.
PATIENT_MS = ms(30_000)
DRAIN_MS = ms(1_500)


@pytest.fixture
def site(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    drain_ms = getattr(request, "param", PATIENT_MS)
    with rig(tmp_path_factory.mktemp("drain"), {"alpha": {}}, edge={"drain_ms": drain_ms}) as ours:
        yield ours


def refuses_connections(url: str) -> bool:
    parts = urlsplit(url)
    try:
        socket.create_connection((parts.hostname, parts.port), 1).close()
    except ConnectionRefusedError:
        return True
    return False


def test_sigterm_lets_streams_finish_and_takes_no_new_ones(site: Rig) -> None:
    url, edge = site.url, site.services["edge"]
    with stream(url, "tokens=60,itl_ms=40") as running, Exchange(url) as whole, Exchange(url) as idle:
        idle.send("GET", "/v1/models").read()
        whole.send("POST", "/v1/chat/completions", chat(), {"x-sim": "tokens=60,itl_ms=40"})
        running.head()
        running.until(b'"content"')
        until(lambda: site.stats()["open"] == 2)
        edge.send(signal.SIGTERM)
        until(lambda: refuses_connections(url), what="the listener is closed")
        assert ask(site.ops_url(), "/readyz").status == 503, "the ops port says why"
        assert idle.socket.recv(1) == b"", "an idle connection is closed"
        answer = running.rest()
        assert answer.done
        assert answer.errors == []
        assert len(answer.frames) == 60 + 1
        assert whole.read().status == 200
        assert edge.wait() == 0
    assert [line["outcome"] for line in site.lines()] == ["finished", "finished"]
    assert site.lines("serve.cut") == []


@pytest.mark.parametrize(
    ("site", "hurried"), [(DRAIN_MS, False), (PATIENT_MS, True)], ids=["deadline", "second-signal"], indirect=["site"]
)
def test_what_is_not_finished_in_time_is_cut_and_told(site: Rig, hurried: bool) -> None:
    """Law 5 holds for our own stops, too: an error frame and [DONE], never a torn body that could pass for an end."""
    edge = site.services["edge"]
    with (
        stream(site.url, "tokens=100000,itl_ms=10") as running,
        stream(site.url, "ttft_ms=60000") as unborn,
        Exchange(site.url) as whole,
    ):
        whole.send("POST", "/v1/chat/completions", chat(), {"x-sim": "tokens=100000,itl_ms=10"})
        running.head()
        running.until(b'"content"')
        until(lambda: site.stats()["open"] == 3)
        began = monotonic()
        edge.send(signal.SIGTERM)
        if hurried:
            until(lambda: refuses_connections(site.url))
            edge.send(signal.SIGTERM)
        answer = running.rest()
        took_ms = (monotonic() - began) * 1000
        assert answer.whole, "the body ends as HTTP says it must"
        (error,) = answer.errors
        assert error["code"] == "draining"
        assert answer.done
        assert answer.finish_reasons == []
        for refused in (unborn.read(), whole.read()):
            assert refused.status == 503
            assert refused.json["error"]["code"] == "draining"
            assert refused.headers["x-should-retry"] == "true"
        assert took_ms < PATIENT_MS if hurried else took_ms >= DRAIN_MS * 0.9
        assert edge.wait() == 0
    until(lambda: site.stats()["open"] == 0, what="the engine is free")
    lines = site.lines()
    assert {line["outcome"] for line in lines} == {"failed"}
    assert {line["code"] for line in lines} == {"draining"}


def test_a_killed_edge_frees_its_engines(site: Rig) -> None:
    with stream(site.url, "tokens=100000,itl_ms=10") as running:
        running.head()
        running.until(b'"content"')
        site.kill("edge")
        assert running.rest().whole is False, "its client sees a body without an end"
        until(lambda: site.stats()["open"] == 0, what="the engine is free")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["ctrl-c", "sigterm"])
def test_one_signal_to_headrace_up_ends_everything(number: signal.Signals) -> None:
    ours = start_gateway()
    with contextlib.ExitStack() as stack:
        stack.callback(ours.stop)
        url, pids = ours.edge_url, ours.pids
        assert set(pids) == {"edge", "control", "simulator-vllm"}
        body = {"model": "sim-chat", "messages": [{"role": "user", "content": "hello"}], "stream": True}
        client = stack.enter_context(Exchange(url))
        client.send("POST", "/v1/chat/completions", body, {"x-sim": "tokens=80,itl_ms=10"})
        client.head()
        client.until(b'"content"')
        os.kill(ours.up.pid, number)
        answer = client.rest()
        assert answer.done, "a stream under way finishes"
        assert answer.errors == []
        assert ours.up.wait(ms=15_000) == 0
        assert [name for name, pid in pids.items() if alive(pid)] == []
        assert refuses_connections(url)
