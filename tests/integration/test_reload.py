"""SIGHUP: control takes other backends, `headrace up` puts a changed file into force, a bad file changes nothing."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.exchange import ask, chat, stream
from tests.support.gateway import FAST, start_gateway
from tests.support.processes import alive, until
from tests.support.rig import Rig, rig


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Rig]:
    with rig(tmp_path, {"alpha": {}, "beta": {"models": ["other"]}}) as ours:
        yield ours


def listed(url: str) -> set[str]:
    return {row["id"] for row in ask(url, "/v1/models").json["data"]}


def test_control_takes_other_backends_and_keeps_what_it_knows_of_the_rest(site: Rig) -> None:
    site.wait_models("tiny", "other")
    file = site.folder / "headrace.toml"
    both = file.read_text()
    one = both[: both.index("[[backends]]", both.index("[[backends]]") + 1)]
    with stream(site.url, "tokens=40,itl_ms=10", model="other") as running:
        running.head()
        file.write_text(one)
        site.services["control"].send(signal.SIGHUP)
        until(lambda: listed(site.url) == {"tiny"}, what="the removed backend's model is gone")
        assert site.post(chat(model="other")).status == 404
        assert site.post(chat(), {"x-sim": "tokens=1"}).status == 200
        answer = running.rest()
        assert answer.done, "a stream under way does not notice"
    file.write_text(both)
    site.services["control"].send(signal.SIGHUP)
    site.wait_models("tiny", "other")
    assert site.post(chat(model="other"), {"x-sim": "tokens=1"}).status == 200


def test_control_refuses_a_bad_file_and_goes_on(site: Rig) -> None:
    file = site.folder / "headrace.toml"
    file.write_text(
        file.read_text() + '\n[[backends]]\nname = "alpha"\nengine = "vllm"\nurl = "http://127.0.0.1:1"\n'
    )
    site.services["control"].send(signal.SIGHUP)
    until(lambda: "reload.refused" in site.services["control"].output())
    assert site.post(chat(), {"x-sim": "tokens=1"}).status == 200


def test_one_edge_process_says_that_it_needs_a_restart(site: Rig) -> None:
    site.services["edge"].send(signal.SIGHUP)
    (line,) = until(lambda: site.lines("reload.refused"))
    assert "restart" in line["reason"]
    assert site.post(chat(), {"x-sim": "tokens=1"}).status == 200


@pytest.mark.slow
def test_up_puts_a_changed_file_into_force_without_losing_a_stream() -> None:
    gateway = start_gateway(FAST.replace("[edge]", "[edge]\nworkers = 1"))
    try:
        file = next(iter(gateway.up.log.parent.glob("given.toml")))
        before = gateway.up.ready()["services"]
        worker = next(entry["workers"][0]["pid"] for entry in before if entry["name"] == "edge")
        text = file.read_text()
        with stream(gateway.edge_url, "tokens=60,itl_ms=20", model="sim-chat") as running:
            running.head()
            limit = text.replace("[edge]", "[edge]\nmax_body_bytes = 2_000").replace("200", "250", 1)
            file.write_text(limit.replace("probe_interval_ms = 200", "probe_interval_ms = 250"))
            os.kill(gateway.up.pid, signal.SIGHUP)
            long, brief = chat("x" * 3_000), {"x-sim": "tokens=1"}
            until(
                lambda: ask(gateway.edge_url, "/v1/chat/completions", long, headers=brief).status == 413,
                ms=30_000,
                what="a worker that has the new limit",
            )
            assert running.rest().done
        until(lambda: not alive(worker), ms=20_000)
        said = gateway.up.output()
        assert "needs a restart: [control]" in said
        file.write_text(text + "\n[nonsense]\n")
        os.kill(gateway.up.pid, signal.SIGHUP)
        until(lambda: "Not reloaded" in gateway.up.output())
        assert "nonsense" in gateway.up.output()
    finally:
        assert gateway.stop() == 0
