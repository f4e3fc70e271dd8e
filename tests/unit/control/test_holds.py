"""Holds: made, renewed, ended, run out; never on the last backend of a model; and what payers have spent."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import httpx
import msgspec
import pytest

from control.app import application
from control.health import Finding
from control.holds import MAX_HOLDS, AilingRequest, HoldRequest, Holds
from control.listing import backend_list
from control.service import Control
from control.settings import ControlSettings
from control.spending import Spending
from streamkit.flow.clock import ManualClock
from streamkit.wire.backend import Backend
from streamkit.wire.errors import Code, HeadraceError
from streamkit.wire.keys import KeyRecord, KeySnapshot, Tenant
from streamkit.wire.route import RouteAnswer, RouteRequest
from streamkit.wire.state import ArbiterState, EdgeReport, Header, Hold, Snapshot
from streamkit.wire.telemetry import Spent, SpentState


class Nobody:
    async def get(self, url: str, *, timeout_ms: int, headers: object = ()) -> None: ...


def hold(name: str, **rest: object) -> HoldRequest:
    return HoldRequest(backend=name, **rest)  # type: ignore[arg-type]


def control(
    events: list[tuple[str, Mapping[str, object]]] | None = None, clock: ManualClock | None = None
) -> Control:
    backends = tuple(
        Backend(name=name, engine="vllm", url=f"http://{name}:1", models=models)
        for name, models in (("a", ("m",)), ("b", ("m", "own")))
    )
    ours = Control(
        ControlSettings(), backends, client=Nobody(),  # type: ignore[arg-type]
        clock=clock or ManualClock(), on_event=None if events is None else lambda *event: events.append(event),
    )  # fmt: skip
    for name in ("a", "b"):
        ours.registry.observe(name, Finding(ok=True))
    return ours


def served(ours: Control, model: str = "m") -> list[str]:
    answer = msgspec.json.decode(ours.route(RouteRequest(model=model)), type=RouteAnswer)
    return [candidate.backend for candidate in answer.candidates]


def test_a_hold_lasts_until_nobody_renews_it():
    clock = ManualClock()
    holds = Holds(clock)
    assert holds.put(hold("a", ttl_ms=1_000, why="slow"))
    clock.advance(0.9)
    assert not holds.put(hold("a", ttl_ms=1_000, why="slow")), "no news"
    clock.advance(0.9)
    assert holds.expire() == ()
    clock.advance(0.2)
    assert holds.expire() == (Hold(backend="a", why="slow", ttl_ms=1_000),)
    assert holds.active == ()
    assert not holds.put(hold("a", ttl_ms=0)), "ending what is over is no news"


def test_there_is_room_for_so_many():
    holds = Holds(ManualClock())
    for number in range(MAX_HOLDS):
        holds.put(hold(f"b{number}"))
    with pytest.raises(ValueError, match="holds already"):
        holds.put(hold("one more"))


def test_control_holds_tells_and_lets_go():
    events: list[tuple[str, Mapping[str, object]]] = []
    ours = control(events)
    events.clear()
    before = ours.board.sequence
    assert served(ours) == ["a", "b"]
    ours.hold(hold("a", why="slow"))
    assert (served(ours), ours.board.sequence) == (["b", "a"], before + 1)
    snapshot = msgspec.json.decode(ours.board.encoded(), type=Snapshot)
    held = Hold(backend="a", why="slow", ttl_ms=60_000)
    assert (snapshot.holds, snapshot.routes) == ((held,), before + 1)
    ours.hold(hold("a", why="slower"))
    assert ours.registry.holds.active == (held,), "a renewal is no news, whatever it says"
    ours.hold(hold("a", ttl_ms=0))
    assert served(ours) == ["a", "b"]
    assert [name for name, _ in events] == ["backend.held", "backend.released"]


def refused(ours: Control, asked: HoldRequest) -> Code:
    with pytest.raises(HeadraceError) as caught:
        ours.hold(asked)
    return caught.value.code


def test_the_last_backend_of_a_model_is_never_held():
    ours = control()
    assert refused(ours, hold("b")) is Code.CONFLICT, "nobody else has its own model"
    assert refused(ours, hold("nobody")) is Code.NOT_FOUND
    ours.registry.observe("b", Finding(ok=False))
    for _ in range(3):
        ours.registry.observe("b", Finding(ok=False))
    assert refused(ours, hold("a")) is Code.CONFLICT, "the other one is down"
    assert refused(ours, hold("a", node="north")) is Code.CONFLICT


def test_a_hold_for_one_node_leaves_the_others_their_work():
    ours = control()
    ours.hold(hold("a", node="north"))
    assert served(ours) == ["a", "b"], "the node's own edges leave it out"
    assert ours.registry.holds.active == (Hold(backend="a", node="north", ttl_ms=60_000),)
    lines = {line.name: (line.held, line.held_nodes) for line in backend_list(ours.registry).data}
    assert lines == {"a": (False, ("north",)), "b": (False, ())}


def test_a_sick_backend_is_told_to_the_arbiter_of_its_host():
    ours = control()
    told: list[tuple[str, object]] = []
    ours.on_ailing = lambda host, ailing: told.append((host, ailing.backend))
    with pytest.raises(HeadraceError):
        ours.ailing(AilingRequest(backend="a"))
    header = {"instance": "gpu-a.0.1", "sequence": 1}
    state = {"header": header, "host": "gpu-a", "pressure": {"a": "ok"}}
    ours.hear(msgspec.json.encode(msgspec.convert(state, ArbiterState)))
    assert ours.ailing(AilingRequest(backend="a", why="slow")) == "gpu-a"
    assert told == [("gpu-a", "a")]


KEYS = KeySnapshot(
    keys=(KeyRecord(id="k-1", sha256="0", tenant="acme", tokens_per_day=5),),
    tenants=(Tenant(name="acme", tokens_per_month=9), Tenant(name="free")),
)


def said(*spent: Spent, day: int = 10, month: int = 2) -> bytes:
    return msgspec.json.encode(SpentState(day=day, month=month, spent=spent))


def test_only_payers_with_a_budget_are_news():
    spending = Spending()
    assert spending.of(KEYS) is None, "nobody has told anything"
    acme, key = Spent(payer="tenant:acme", day=1, month=2), Spent(payer="key:k-1", day=3, month=4)
    spending.read(said(acme, Spent(payer="tenant:free", day=7, month=8)))
    spending.read(said(key))
    assert spending.of(KEYS) == SpentState(day=10, month=2, spent=(key, acme))
    assert spending.of(KeySnapshot()) is None


def test_a_new_day_begins_at_nothing_and_a_late_word_of_yesterday_is_none():
    spending = Spending()
    spending.read(said(Spent(payer="tenant:acme", day=1, month=2)))
    spending.read(said(day=11))
    assert spending.of(KEYS) == SpentState(day=11, month=2, spent=(Spent(payer="tenant:acme", day=0, month=2),))
    spending.read(said(Spent(payer="tenant:acme", day=99, month=99), day=10))
    assert spending.of(KEYS) == SpentState(day=11, month=2, spent=(Spent(payer="tenant:acme", day=0, month=2),))
    spending.read(said(day=40, month=3))
    assert spending.of(KEYS) == SpentState(day=40, month=3)


def test_a_total_is_told_in_steps_and_at_once_when_its_budget_is_used_up():
    keys = KeySnapshot(tenants=(Tenant(name="acme", tokens_per_day=1_000),))
    spending = Spending()

    def told(day: int) -> int:
        spending.read(said(Spent(payer="tenant:acme", day=day, month=day)))
        state = spending.of(keys)
        assert state is not None
        return state.spent[0].day

    assert [told(day) for day in (3, 5, 12, 13, 22, 23)] == [3, 3, 3, 13, 13, 23]
    assert [told(day) for day in (995, 999, 1_000, 1_001)] == [995, 995, 1_000, 1_000]
    spending.read(said(day=11))
    state = spending.of(keys)
    assert state is not None
    assert state.spent[0].day == 0


def test_what_was_spent_is_no_reason_to_ask_for_routes_anew():
    ours = control()
    ours.registry.set_keys(KEYS)
    routes, sequence = ours.board.routes, ours.board.sequence
    ours.hear_spent(said(Spent(payer="tenant:acme", day=1, month=2)))
    assert (ours.board.routes, ours.board.sequence) == (routes, sequence + 1)
    ours.hold(hold("a"))
    assert ours.board.routes == ours.board.sequence == sequence + 2


@pytest.mark.anyio
async def test_acts_are_taken_from_services_and_never_from_a_web_page():
    ours = control()
    app = application(ours, secret="s3cret")
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://control") as client:
        ours_only = {"authorization": "Bearer s3cret"}
        body = {"backend": "a", "ttl_ms": 1_000}
        assert (await client.post("/v1/holds", json=body)).status_code == 401
        for page in ({"origin": "http://evil.example"}, {"sec-fetch-site": "cross-site"}):
            for path in ("/v1/holds", "/v1/ailing"):
                answer = await client.post(path, json={"backend": "a"}, headers={**ours_only, **page})
                assert answer.status_code == 403
        assert ours.registry.holds.active == ()
        assert (await client.post("/v1/holds", json=body, headers=ours_only)).json()["holds"][0]["backend"] == "a"
        wrong = await client.post("/v1/holds", json={"backend": "a", "ttl_ms": -1}, headers=ours_only)
        assert (wrong.status_code, wrong.json()["error"]["param"]) == (400, "ttl_ms")
        assert (await client.post("/v1/holds", json={"backend": "b"}, headers=ours_only)).status_code == 409


@pytest.mark.anyio
async def test_edges_that_come_and_go_are_told():
    events: list[tuple[str, Mapping[str, object]]] = []
    ours = control(events)
    report = EdgeReport(header=Header(instance="north.0.1", sequence=1))
    async with ours.running(), asyncio.timeout(10):
        with ours.registry.hearing(report):
            while ("edge.joined", {"instance": "north.0.1"}) not in events:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        ours.registry._clock.advance(60)
        while ("edge.gone", {"instance": "north.0.1"}) not in events:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
