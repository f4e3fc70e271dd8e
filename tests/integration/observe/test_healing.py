"""A backend that falls sick under users: found, held, and back at work when it is well. Dry-run touches nothing."""

from __future__ import annotations

import contextlib
import json
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from streamkit.wire.telemetry import EVENTS
from tests.support.arbiter import ArbiterProcess, arbiter
from tests.support.exchange import ask, chat
from tests.support.observe import observing, served, stored
from tests.support.processes import Running, until
from tests.support.rig import Rig, rig
from tests.support.timing import FACTOR

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]
#: The defaults are 2 s a probe; the counts are the same.
PROBER = {"every_ms": 100, "timeout_ms": int(700 * FACTOR), "ttft_floor_ms": int(500 * FACTOR), "baseline_probes": 3}


#: The operator's own command, which makes the simulator well: whatever a restart would do.
_RESTART = """
import sys, urllib.request
request = urllib.request.Request(sys.argv[1] + "/sim/fault", b'{"fault": null}', {"content-type": "application/json"})
urllib.request.urlopen(request, timeout=5)
"""
_ARBITER = """
inventory = "static"
look_ms = 50
nats_url = "{nats}"
[[backends]]
name = "alpha"
engine = "vllm"
url = "{url}"
[[budgets]]
name = "alpha"
engine = "vllm"
budget_mb = 1000
model = "tiny"
on_sick = "restart"
restart = {command}
"""


@dataclass
class Place:
    """A site whose backend `alpha` has an arbiter."""

    rig: Rig
    nats: str
    lender: ArbiterProcess

    def __iter__(self) -> Iterator[Any]:
        return iter((self.rig, self.nats))


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("healing")
    with (
        served(folder, "here") as broker,
        rig(folder, control={"nats_url": broker.url}, edge={"breaker_open_ms": 200}) as ours,
    ):
        url = ours.url_of("alpha")
        command = json.dumps([sys.executable, "-c", _RESTART, url])
        with arbiter(folder, _ARBITER.format(nats=broker.url, url=url, command=command)) as lender:
            yield Place(ours, broker.url, lender)


@contextlib.contextmanager
def healing(
    site: Place, folder: Path, mode: str, **rule: int
) -> Iterator[tuple[Rig, Running, Callable[[], list[str]]]]:
    """Run a healer beside the site; the third is what it has told since."""
    ours, url = site
    prober = {**PROBER, "edges": [ours.url], "control_url": ours.url_of("control")}
    whole = {"mode": mode, "restart_after_ms": 0, "hold_ms": 2_000, "pause_ms": 1, **rule}
    feeds = [f"edge={ours.ops_url()}", f"arbiter={site.lender.ready['ops_url']}"]
    before = max((sequence for sequence, _ in stored(url, EVENTS)), default=0)

    def told() -> list[str]:
        """Return what it said of alpha; on a busy machine it may find the other one slow as well."""
        return [
            event.kind
            for sequence, event in stored(url, EVENTS)
            if sequence > before and event.kind.startswith("healing") and event.fields["backend"] == "alpha"
        ]

    with observing(folder, "observe", site="here", nats_url=url, feeds=feeds, prober=prober, healing=whole) as centre:
        until(lambda: len([path for path in paths(centre) if path["usual_ttft_ms"]]) == 2, what="it knows both")
        yield ours, centre, told


def paths(centre: Running) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = ask(str(centre.ready()["url"]), "/v1/paths").json
    return found


def sick(centre: Running) -> set[str]:
    return {path["backend"] for path in paths(centre) if path["sick"]}


def held(ours: Rig) -> set[str]:
    return {line["name"] for line in ask(ours.url_of("control"), "/v1/backends").json["data"] if line["held"]}


def fault(ours: Rig, name: str | None) -> None:
    assert ask(ours.url_of("alpha"), "/sim/fault", {"fault": name}).status == 200


def test_a_sick_backend_is_held_and_comes_back(site: Place, tmp_path: Path):
    with healing(site, tmp_path, "on") as (ours, _, told):
        for name in ("stall", "error500"):
            until(lambda: ours.post(chat()).headers["x-headrace-backend"] == "alpha")
            fault(ours, name)
            began = time.monotonic()
            until(lambda: "alpha" in held(ours), ms=10_000, what=f"{name} is found and acted on")
            print(f"{name}: held after {time.monotonic() - began:.1f} s, probes every {PROBER['every_ms']} ms")
            answer = ours.post(chat())
            assert (answer.status, answer.headers["x-headrace-backend"]) == (200, "beta")
            fault(ours, None)
            until(lambda: "alpha" not in held(ours), ms=20_000, what="it is let go when it is well")
        until(lambda: ours.post(chat()).headers["x-headrace-backend"] == "alpha", what="users are back")
        until(lambda: len(told()) >= 4)
        assert told() == ["healing.hold", "healing.release"] * 2
        assert ours.metric("headrace_streams_total") > 0
        assert ours.metric("headrace_streams_total", gen_ai_operation_name="probe") == 0, "no user's figure"


def test_dry_run_says_what_it_would_do_and_does_nothing(site: Place, tmp_path: Path):
    with healing(site, tmp_path, "dry-run", restart_after_ms=200) as (ours, _, told):
        before = ask(str(site.lender.ready["ops_url"]), "/metrics").body.count(b'what="restart"} 0.0')
        fault(ours, "error500")
        until(lambda: "healing.would_restart" in told(), ms=10_000, what="it would hold, and restart")
        assert held(ours) == set()
        fault(ours, None)
        until(lambda: "healing.would_release" in told(), ms=10_000)
        assert set(told()) == {"healing.would_hold", "healing.would_restart", "healing.would_release"}
        assert held(ours) == set()
        after = ask(str(site.lender.ready["ops_url"]), "/metrics").body.count(b'what="restart"} 0.0')
        assert after == before, "nobody asked the arbiter"


def test_the_arbiter_restarts_what_stays_sick_and_its_lease_is_gpu_time(site: Place, tmp_path: Path):
    lease = site.lender.acquire(500, client="alpha")
    with healing(site, tmp_path, "on", restart_after_ms=300) as (ours, centre, told):
        answer = ours.post(chat(), {"x-sim": "tokens=20,itl_ms=5"})
        assert (answer.status, answer.headers["x-headrace-backend"]) == (200, "alpha")
        fault(ours, "slow")
        # Nobody heals it here but the arbiter's own command.
        until(lambda: "healing.release" in told(), ms=20_000, what="restarted and back")
        assert told() == ["healing.hold", "healing.restart", "healing.release"]
        page = ask(str(site.lender.ready["ops_url"]), "/metrics").body.decode()
        assert 'headrace_backend_room_total{backend="alpha",what="restart"} 1.0' in page
        site.lender.release(lease.lease_id)

        def row() -> dict[str, Any] | None:
            url = str(centre.ready()["url"])
            rows = ask(url, "/v1/usage?since_ms=3600000&by=backend").json["rows"]
            return next((row for row in rows if row["backend"] == "alpha" and row["gpu_s"]), None)

        found = until(row, what="the lease is counted")
        assert found is not None
        assert found["slot_s"] > 0
        assert 0 < found["gpu_s"] < 600


def test_a_node_s_edges_leave_alone_what_is_held_for_them(site: Place):
    ours, _ = site
    node = ask(ours.url, "/v1/chat/completions", chat(max_tokens=1), headers={"x-headrace-probe": "alpha"}).headers
    hold = {"backend": "alpha", "node": node["x-headrace-node"], "ttl_ms": 60_000}
    for elsewhere, served_by in ((hold, "beta"), ({**hold, "ttl_ms": 0}, "alpha"), ({**hold, "node": "x"}, "alpha")):
        assert ask(ours.url_of("control"), "/v1/holds", elsewhere).status == 200
        until(lambda name=served_by: ours.post(chat(max_tokens=1)).headers["x-headrace-backend"] == name)
    assert ask(ours.url_of("control"), "/v1/holds", {**hold, "node": "x", "ttl_ms": 0}).status == 200


def test_the_last_healthy_backend_is_never_held_and_a_lost_healer_holds_nothing(site: Place, tmp_path: Path):
    with healing(site, tmp_path, "on") as (ours, centre, told):
        ours.kill("beta")
        until(lambda: b'"down"' in ask(ours.url_of("control"), "/v1/backends").body, what="control sees it")
        fault(ours, "slow")
        until(lambda: "alpha" in sick(centre), ms=10_000, what="it is found")
        until(lambda: "healing.withheld" in told(), what="and told of")
        assert "alpha" not in held(ours)
        ours.start_simulator("beta")
        until(lambda: "alpha" in held(ours), ms=10_000, what="held as soon as another can take the work")
        centre.process.kill()
        centre.wait()
        until(lambda: not held(ours), ms=10_000, what="the hold runs out")
        fault(ours, None)
