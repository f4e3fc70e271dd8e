"""A client that is gone stops costing GPU time within a second (law 6): three phases, four ways to leave."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.support.exchange import Exchange, chat, stream
from tests.support.processes import until
from tests.support.rig import Rig, rig

LEAVE: dict[str, Callable[[Exchange], Any]] = {
    "close": Exchange.close,
    "reset": Exchange.reset,
    "half-close": Exchange.half_close,
}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    with rig(tmp_path_factory.mktemp("gone"), {"alpha": {}}) as ours:
        yield ours


@pytest.fixture(autouse=True)
def _quiet(site: Rig) -> None:
    site.wait_quiet()


def wait_for_work(site: Rig, *, sequences: int = 1) -> None:
    """Wait until the engine works on the request, so that leaving means something."""

    def working() -> bool:
        stats = site.stats()
        return stats["running"] + stats["waiting"] == sequences

    until(working, what="the engine works")
    assert site.metric("headrace_attempts_inflight", backend="alpha") == 1
    assert site.metric("headrace_streams_open") == 1


def assert_given_up(site: Rig, aborted: int) -> None:
    """Engine, permit, stream and bytes are free within a second."""
    site.wait_quiet()
    assert site.stats()["aborted"] == aborted + 1, "the engine saw its client leave"


@pytest.mark.parametrize("leave", LEAVE.values(), ids=LEAVE)
@pytest.mark.parametrize("sim", ["ttft_ms=60000", "stall_headers=true,ttft_ms=60000"], ids=["headers", "no-headers"])
def test_before_the_first_event(site: Rig, sim: str, leave: Callable[[Exchange], Any]) -> None:
    aborted = site.stats()["aborted"]
    with stream(site.url, sim) as client:
        until(lambda: site.stats()["open"] == 1)
        leave(client)
        assert_given_up(site, aborted)
    (line,) = site.lines()[-1:]
    assert (line["outcome"], line["events"]) == ("cancelled", 0)


@pytest.mark.parametrize("leave", LEAVE.values(), ids=LEAVE)
def test_in_mid_stream(site: Rig, leave: Callable[[Exchange], Any]) -> None:
    aborted = site.stats()["aborted"]
    gone = site.metric("headrace_disconnects_total", phase="flowing", cause="client")
    with stream(site.url, "tokens=20000,itl_ms=5") as client:
        client.head()
        client.until(b'"content"')
        wait_for_work(site)
        leave(client)
        assert_given_up(site, aborted)
    assert site.metric("headrace_disconnects_total", phase="flowing", cause="client") == gone + 1
    assert site.lines()[-1]["outcome"] == "cancelled"


@pytest.mark.parametrize("leave", LEAVE.values(), ids=LEAVE)
@pytest.mark.parametrize("n", [1, 3])
def test_while_a_whole_answer_is_made(site: Rig, leave: Callable[[Exchange], Any], n: int) -> None:
    aborted = site.stats()["aborted"]
    with Exchange(site.url) as client:
        client.send("POST", "/v1/chat/completions", chat(n=n), {"x-sim": "tokens=20000,itl_ms=5"})
        wait_for_work(site, sequences=n)
        leave(client)
        assert_given_up(site, aborted)
    assert site.lines()[-1]["outcome"] == "cancelled"


def test_while_its_request_waits_in_the_engines_queue(tmp_path_factory: pytest.TempPathFactory) -> None:
    with rig(tmp_path_factory.mktemp("queued"), {"alpha": {"max_num_seqs": 1}}) as site:
        with stream(site.url, "tokens=20000,itl_ms=20") as first, stream(site.url, "tokens=5") as second:
            first.head()
            first.until(b'"content"')
            until(lambda: site.stats()["waiting"] == 1)
            second.close()
            until(lambda: site.stats()["waiting"] == 0, what="the engine's queue is empty")
            assert site.stats()["running"] == 1
            assert site.metric("headrace_attempts_inflight") == 1
        site.wait_quiet()


def test_with_a_pipelined_request_behind(site: Rig) -> None:
    """A second request on the connection must not hide that the client left."""
    aborted = site.stats()["aborted"]
    with stream(site.url, "tokens=20000,itl_ms=5") as client:
        client.head()
        client.send("POST", "/v1/chat/completions", chat(), {"x-sim": "tokens=2"})
        client.until(b'"content"')
        wait_for_work(site)
        client.close()
        assert_given_up(site, aborted)


def test_a_half_sent_request_leaves_nothing(site: Rig) -> None:
    started = site.started()
    with Exchange(site.url) as client:
        head = "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
        client.socket.sendall(f"{head}content-length: 100000\r\n\r\n".encode() + b'{"model": "ti' + b" " * 50_000)
        until(lambda: site.metric("headrace_buffered_bytes", account="bodies") > 0)
    site.wait_quiet()
    assert site.started() == started
