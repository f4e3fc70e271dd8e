"""Pressure from an arbiter to a decision: a real NATS server, a real control, real engines' stand-ins (design §5)."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from streamkit.wire.ids import Instance
from tests.support.arbiter import arbiter
from tests.support.broker import broker, voice
from tests.support.exchange import ask, chat, stream
from tests.support.processes import until
from tests.support.rig import Rig, rig

BOTH, ALONE = "both", "alone"
SHEDDABLE, NEEDED = 5, 3
OPEN, AVOIDED, SHED = {"alpha", "beta"}, {"beta"}, "saturated"
LONE = {"alpha"}
# What control answers for a model that both serve (an alternative), and for one that only alpha serves (none).
TABLE = [
    ("absent", SHEDDABLE, OPEN, LONE),
    ("absent", NEEDED, OPEN, LONE),
    ("fresh", SHEDDABLE, AVOIDED, SHED),
    ("fresh", NEEDED, OPEN, LONE),
    ("stale", SHEDDABLE, AVOIDED, LONE),
    ("stale", NEEDED, OPEN, LONE),
]


def route(site: Rig, model: str, priority: int) -> set[str] | str:
    answer = ask(site.url_of("control"), "/v1/route", {"model": model, "priority_class": priority}).json
    if answer["shed"]:
        return str(answer["shed"]["code"])
    return {candidate["backend"] for candidate in answer["candidates"]}


def pressure(site: Rig, name: str) -> tuple[str, str] | None:
    lines = ask(site.url_of("control"), "/v1/backends").json["data"]
    line: dict[str, Any] = next(line for line in lines if line["name"] == name)
    if line["pressure"] is None:
        return None
    return line["pressure"], "fresh" if line["pressure_age_ms"] <= 1_000 else "stale"


def check(site: Rig, state: str) -> None:
    for signal_state, priority, alternative, none in TABLE:
        if signal_state == state:
            case = f"{state}, priority {priority}"
            assert route(site, BOTH, priority) == alternative, f"{case}, an alternative"
            assert route(site, ALONE, priority) == none, f"{case}, no alternative"


@pytest.fixture
def site(tmp_path: Path) -> Iterator[tuple[Rig, str]]:
    with broker(tmp_path) as nats:
        simulators = {"alpha": {"models": [BOTH, ALONE]}, "beta": {"models": [BOTH]}}
        with rig(tmp_path, simulators, control={"nats_url": nats.url}, without=("edge",)) as ours:
            until(lambda: ask(ours.url_of("control"), "/v1/backends").body.count(b'"up"') == 2)
            yield ours, nats.url


def test_the_staleness_table_through_control(site: tuple[Rig, str]) -> None:
    ours, url = site
    check(ours, "absent")
    with voice(url, Instance("gpu-b", 0, "1"), beta="ok"):
        with voice(url, Instance("gpu-a", 0, "2"), alpha="shedding") as spoken:
            until(
                lambda: pressure(ours, "alpha") == ("shedding", "fresh") and pressure(ours, "beta") == ("ok", "fresh")
            )
            check(ours, "fresh")
            spoken.pressure["alpha"] = "down"
            until(lambda: route(ours, BOTH, 1) == AVOIDED, what="nobody goes where the arbiter says: down")
            # An arbiter that is left over from before is not believed, however often it says otherwise.
            with voice(url, Instance("gpu-a", 0, "1"), alpha="ok"):
                key = ("headrace_control_signals_total", frozenset({("result", "older")}))
                until(lambda: ours.metrics("control")[key] >= 3)
                assert pressure(ours, "alpha") == ("down", "fresh")
            spoken.pressure["alpha"] = "shedding"
            until(lambda: pressure(ours, "alpha") == ("shedding", "fresh"))
        until(lambda: pressure(ours, "alpha") == ("shedding", "stale"), what="silence is stale after a second")
        # No message came: control saw by itself that the old one has gone stale.
        until(lambda: route(ours, ALONE, SHEDDABLE) == LONE)
        check(ours, "stale")


@pytest.mark.slow
def test_killed_nats_arbiter_or_control_no_stream_is_dropped(tmp_path: Path) -> None:
    with broker(tmp_path) as nats, rig(tmp_path, {"alpha": {}}, control={"nats_url": nats.url}) as site:
        taken = ("headrace_control_signals_total", frozenset({("result", "taken")}))
        with arbiter(tmp_path, f'nats_url = "{nats.url}"') as lender:
            until(lambda: site.metrics("control")[taken] >= 2, what="the arbiter is heard")
            with stream(site.url, "seed=3,tokens=150,itl_ms=20") as running:
                running.head()
                running.until(b'"content"')
                nats.running.send(signal.SIGKILL)
                nats.running.wait()
                assert site.post(chat(), {"x-sim": "tokens=2"}).status == 200
                lender.running.send(signal.SIGKILL)
                lender.running.wait()
                assert site.post(chat(), {"x-sim": "tokens=2"}).status == 200
                site.kill("control")
                assert site.post(chat(), {"x-sim": "tokens=2"}).status == 200
                answer = running.rest()
        assert (answer.done, answer.errors) == (True, [])
        assert len([frame for frame in answer.frames if frame["choices"]]) == 150 + 1
        # All three come back, in another order; nobody has to tell anybody.
        site.start_control()
        with arbiter(tmp_path, f'nats_url = "{nats.url}"', name="second"), broker(tmp_path, port=nats.port):
            until(lambda: site.metrics("control")[taken] >= 2, what="the next arbiter is heard")
            assert site.metrics("control")["headrace_nats_connected", frozenset()] == 1


#: Short enough for a test; the ladder's own times are held by its property test.
QUICK = """
inventory = "static"
look_ms = 50
rise_ms = 150
fall_ms = 600
residency_ms = 300
"""
BACKEND = '\n[[backends]]\nname = "{}"\nengine = "vllm"\nurl = "{}"\nmax_inflight = 4\n'


@pytest.mark.slow
def test_an_overload_moves_traffic_to_the_next_backend_and_back(tmp_path: Path) -> None:
    with broker(tmp_path) as nats:
        small = {"max_num_seqs": 4}
        control = {"nats_url": nats.url}
        simulators = {"alpha": small, "beta": small}
        with rig(tmp_path, simulators, control=control, backends={"max_inflight": 4}) as site, ExitStack() as load:
            file = f'{QUICK}nats_url = "{nats.url}"'
            for name in simulators:
                file += BACKEND.format(name, site.url_of(name))
            lender = load.enter_context(arbiter(tmp_path, file))

            def served_by() -> str:
                answer = site.post(chat(), {"x-sim": "tokens=2"})
                assert answer.status == 200, answer.body
                return answer.headers["x-headrace-backend"]

            until(lambda: pressure(site, "alpha") == ("ok", "fresh"), what="the arbiter looks at alpha")
            assert served_by() == "alpha", "its region comes first"
            with ExitStack() as overload:
                # Past the gateway, as a tenant of the same engine would: four run and five wait.
                for _ in range(9):
                    overload.enter_context(stream(site.url_of("alpha"), "tokens=100000,itl_ms=50"))
                until(lambda: pressure(site, "alpha") == ("shedding", "fresh"), what="alpha sheds")
                until(lambda: served_by() == "beta", what="work goes to beta")
                assert all(served_by() == "beta" for _ in range(5))
                urgent = site.post(chat(priority=1), {"x-sim": "tokens=2"})
                assert urgent.status == 200, "priority 1 is never shed"
            until(lambda: pressure(site, "alpha") == ("ok", "fresh"), what="alpha has recovered")
            until(lambda: served_by() == "alpha", what="work comes back")
            changes = ask(str(lender.ready["ops_url"]), "/metrics").body.decode()
            for level, times in (("shedding", 1), ("down", 0)):
                assert f'headrace_pressure_changes_total{{backend="alpha",level="{level}"}} {times}.0' in changes


@pytest.mark.slow
def test_a_model_that_sleeps_is_woken_by_a_request_whose_client_sees_heartbeats_and_then_tokens(
    tmp_path: Path,
) -> None:
    with broker(tmp_path) as nats:
        edge = {"commit_after_ms": 300, "route_timeout_ms": 200, "queue_ms": 100, "heartbeat_ms": 100}
        with rig(tmp_path, {"alpha": {}}, control={"nats_url": nats.url}, edge=edge) as site:
            file = f'{QUICK}nats_url = "{nats.url}"' + BACKEND.format("alpha", site.url_of("alpha"))
            assert ask(site.url_of("alpha"), "/sleep?level=1", {"any": 1}).status == 200
            assert ask(site.url_of("alpha"), "/is_sleeping").json["is_sleeping"]
            with stream(site.url, "tokens=5") as running:
                running.head()
                running.until(b":")  # a heartbeat: it sleeps, and nobody wakes it
                with arbiter(tmp_path, file):
                    until(lambda: pressure(site, "alpha") == ("ok", "fresh"), what="the arbiter looks at alpha")
                    assert ask(site.url_of("alpha"), "/is_sleeping").json["is_sleeping"]
                    second = site.post(chat(), {"x-sim": "tokens=2"})
                    answer = running.rest()
            assert second.status == 200
            assert (answer.done, answer.errors) == (True, [])
            assert not ask(site.url_of("alpha"), "/is_sleeping").json["is_sleeping"]
