"""The cache of route answers, with a control that the test plays and a clock that it moves."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable

import msgspec
import pytest

from edge.routing import routes as module
from edge.routing.routes import Routes
from streamkit.flow.clock import ManualClock
from streamkit.ops import catalog
from streamkit.ops.http_client import HttpError, Response
from streamkit.ops.metrics import Metrics
from streamkit.wire.errors import Code, HeadraceError
from streamkit.wire.route import RouteAnswer, RouteRequest, Shed
from tests.unit.edge.scripted import News, candidate, turning

pytestmark = pytest.mark.anyio
REQUEST = RouteRequest("m")


class Control:
    """Answers when the test says so; each call is a future."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, object, int]] = []
        self.waiting: list[asyncio.Future[Response]] = []
        self.news = News()

    async def post_json(self, url: str, payload: object, *, timeout_ms: int, headers: object = ()) -> Response:
        self.calls.append((url, payload, timeout_ms))
        future: asyncio.Future[Response] = asyncio.get_running_loop().create_future()
        self.waiting.append(future)
        self.news.tell()
        return await future

    async def says(self, answer: RouteAnswer | bytes | Exception, status: int = 200) -> None:
        """Answer the oldest call."""
        await self.news.until(lambda: self.waiting)
        future = self.waiting.pop(0)
        if isinstance(answer, Exception):
            future.set_exception(answer)
        else:
            body = answer if isinstance(answer, bytes) else msgspec.json.encode(answer)
            future.set_result(Response(status, body))


class Rig:
    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.clock = ManualClock(1000.0)
        monkeypatch.setattr(module, "monotonic", self.clock)
        self.metrics = Metrics()
        self.control = Control()
        self.routes = Routes(self.control, "http://c:1/", timeout_ms=77, metrics=self.metrics)  # type: ignore[arg-type]

    async def ask(self, answer: RouteAnswer | bytes | Exception, request: RouteRequest = REQUEST) -> RouteAnswer:
        task = asyncio.ensure_future(self.routes.route(request))
        await self.control.says(answer)
        return await task

    def counts(self) -> tuple[float, float, float, float]:
        return tuple(self.metrics.value(catalog.ROUTES, why) for why in ("cache", "control", "stale", "none"))  # type: ignore[return-value]

    async def settled(self) -> None:
        await turning(lambda: not self.routes._asking)


@pytest.fixture
def rig(monkeypatch: pytest.MonkeyPatch) -> Rig:
    return Rig(monkeypatch)


def answer(name: str = "a", ttl_ms: int = 500) -> RouteAnswer:
    return RouteAnswer(decision_id=name, ttl_ms=ttl_ms, candidates=(candidate(name),))


SHED = RouteAnswer(decision_id="s", ttl_ms=500, shed=Shed(code="saturated", message="full"))


async def test_control_is_asked_once_and_then_the_answer_is_used(rig: Rig) -> None:
    assert rig.routes.cached(REQUEST) is None
    assert await rig.ask(answer()) == answer()
    (url, payload, timeout_ms) = rig.control.calls[0]
    assert (url, timeout_ms) == ("http://c:1/v1/route", 77)
    assert json.loads(json.dumps(payload)) == {"model": "m"}, "what is as usual is left out"
    rig.clock.advance(0.5)
    assert rig.routes.cached(REQUEST) == answer()
    assert await rig.routes.route(REQUEST) == answer()
    assert len(rig.control.calls) == 1
    assert rig.counts() == (2, 1, 0, 0)


async def test_each_key_has_its_own_answer(rig: Rig) -> None:
    await rig.ask(answer("a"))
    other = RouteRequest("m", transport="json")
    await rig.ask(answer("b"), other)
    cached = [rig.routes.cached(request) for request in (REQUEST, other)]
    assert [found.decision_id if found else "" for found in cached] == ["a", "b"]


async def test_an_expired_answer_is_used_and_renewed_behind_the_requests_back(rig: Rig) -> None:
    await rig.ask(answer("old"))
    rig.clock.advance(0.6)
    assert (await rig.routes.route(REQUEST)).decision_id == "old"
    assert (await rig.routes.route(REQUEST)).decision_id == "old"
    await rig.control.says(answer("new"))
    await rig.settled()
    assert (await rig.routes.route(REQUEST)).decision_id == "new"
    assert len(rig.control.calls) == 2, "one refresh, however many ask"
    assert rig.counts() == (3, 1, 0, 0)


async def test_when_controls_state_has_changed_a_request_waits_for_a_new_answer(rig: Rig) -> None:
    await rig.ask(answer("old"))
    rig.routes.changed()
    assert rig.routes.cached(REQUEST) is None
    assert (await rig.ask(answer("new"))).decision_id == "new"
    assert rig.routes.cached(REQUEST) is not None


async def test_news_that_no_route_depends_on_leave_answers_as_they_are(rig: Rig) -> None:
    rig.routes.changed(7)
    await rig.ask(answer("old"))
    rig.routes.changed(7)
    assert rig.routes.cached(REQUEST) is not None, "only what payers have spent is another figure"
    rig.routes.changed(8)
    assert rig.routes.cached(REQUEST) is None


async def test_an_answer_that_was_asked_for_before_a_change_is_not_kept_as_new(rig: Rig) -> None:
    task = asyncio.ensure_future(rig.routes.route(REQUEST))
    await rig.control.news.until(lambda: rig.control.waiting)
    rig.routes.changed()
    await rig.control.says(answer())
    await task
    assert rig.routes.cached(REQUEST) is None


async def test_a_shed_answer_holds_for_its_ttl_and_not_a_moment_longer(rig: Rig) -> None:
    await rig.ask(SHED)
    rig.clock.advance(0.5)
    assert rig.routes.cached(REQUEST) == SHED
    rig.clock.advance(0.001)
    assert rig.routes.cached(REQUEST) is None
    assert await rig.ask(answer()) == answer()


async def test_many_that_wait_ask_once(rig: Rig) -> None:
    tasks = [asyncio.ensure_future(rig.routes.route(REQUEST)) for _ in range(5)]
    await rig.control.says(answer())
    assert await asyncio.gather(*tasks) == [answer()] * 5
    assert len(rig.control.calls) == 1


async def test_one_that_stops_waiting_does_not_stop_the_others(rig: Rig) -> None:
    first, second = (asyncio.ensure_future(rig.routes.route(REQUEST)) for _ in range(2))
    await rig.control.news.until(lambda: rig.control.waiting)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    await rig.control.says(answer())
    assert await second == answer()


FAULTS: dict[str, Callable[[Control], object]] = {
    "silent": lambda control: control.says(HttpError("timeout", "no answer in time")),
    "unreachable": lambda control: control.says(HttpError("connect", "cannot connect")),
    "500": lambda control: control.says(b"{}", 500),
    "nonsense": lambda control: control.says(b"<html>"),
    "another schema": lambda control: control.says(b'{"decision_id":1}'),
    "no UTF-8": lambda control: control.says(b'{"decision_id":"\xff","ttl_ms":1}'),
    "too deep": lambda control: control.says(b"[" * 40_000),
}


@pytest.mark.parametrize("fault", FAULTS)
async def test_without_control_and_without_a_set_new_work_is_refused(rig: Rig, fault: str) -> None:
    task = asyncio.ensure_future(rig.routes.route(REQUEST))
    await FAULTS[fault](rig.control)  # type: ignore[misc]
    with pytest.raises(HeadraceError) as caught:
        await task
    assert caught.value.code is Code.NO_ROUTE
    assert "c:1" not in caught.value.message, "where control is, is none of the client's business"
    assert rig.counts() == (0, 0, 0, 1)


async def test_a_control_that_answers_and_not_as_it_should_is_told_once(
    rig: Rig, caplog: pytest.LogCaptureFixture
) -> None:
    """An older one, which does not know what it is asked: it is there, and nothing else would say why no route is."""

    async def refused(status: int, body: bytes = b"") -> None:
        task = asyncio.ensure_future(rig.routes.route(REQUEST))
        await rig.control.says(body, status)
        with pytest.raises(HeadraceError):
            await task

    for _ in range(3):
        await refused(400)
    assert [record.getMessage() for record in caplog.records if record.levelname == "WARNING"] == [
        "no route: http://c:1/v1/route answered 400; is control as new as this edge?"
    ]
    caplog.clear()
    await rig.ask(answer(), RouteRequest("other"))
    await refused(400)
    assert "answered 400" in caplog.text, "it had answered in between"


async def test_what_is_asked_has_nothing_that_is_as_usual(rig: Rig) -> None:
    """So that a control of the version before, which refuses members that it does not know, answers."""
    await rig.ask(answer())
    await rig.ask(answer(), RouteRequest("m", backend="a"))
    assert [payload for _, payload, _ in rig.control.calls] == [{"model": "m"}, {"model": "m", "backend": "a"}]


@pytest.mark.parametrize("fault", FAULTS)
async def test_without_control_a_set_serves_for_ten_minutes_and_is_counted(rig: Rig, fault: str) -> None:
    await rig.ask(answer())
    rig.clock.advance(1)
    assert await rig.routes.route(REQUEST) == answer()
    await FAULTS[fault](rig.control)  # type: ignore[misc]
    await rig.settled()
    assert rig.counts() == (1, 1, 0, 0)
    for elapsed_s in (10, 588):
        rig.clock.advance(elapsed_s)
        assert await rig.routes.route(REQUEST) == answer()
        await FAULTS[fault](rig.control)  # type: ignore[misc]
        await rig.settled()
    assert rig.counts() == (1, 1, 2, 0)
    rig.clock.advance(2)
    with pytest.raises(HeadraceError):
        await rig.ask(HttpError("timeout", "still silent"))


async def test_a_changed_set_serves_too_while_control_is_silent(rig: Rig) -> None:
    await rig.ask(answer())
    rig.routes.changed()
    assert await rig.ask(HttpError("timeout", "silent")) == answer()
    assert rig.counts() == (0, 1, 1, 0)


async def test_a_shed_answer_is_not_held_against_clients_while_control_is_silent(rig: Rig) -> None:
    await rig.ask(SHED)
    rig.clock.advance(1)
    with pytest.raises(HeadraceError) as caught:
        await rig.ask(HttpError("timeout", "silent"))
    assert caught.value.code is Code.NO_ROUTE


async def test_control_s_return_ends_the_counting(rig: Rig) -> None:
    await rig.ask(answer())
    rig.clock.advance(1)
    await rig.routes.route(REQUEST)
    await rig.control.says(HttpError("timeout", "silent"))
    await rig.settled()
    await rig.routes.route(REQUEST)
    await rig.control.says(answer("back"))
    await rig.settled()
    assert (await rig.routes.route(REQUEST)).decision_id == "back"
    assert rig.counts() == (2, 1, 1, 0)


async def test_made_up_models_do_not_fill_the_memory(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MAX_ENTRIES", 3)
    for number in range(5):
        await rig.ask(answer(), RouteRequest(f"m{number}"))
    assert [rig.routes.cached(RouteRequest(f"m{number}")) is not None for number in range(5)] == [False] * 2 + [
        True
    ] * 3


async def test_closing_stops_what_is_asked(rig: Rig) -> None:
    task = asyncio.ensure_future(rig.routes.route(REQUEST))
    await rig.control.news.until(lambda: rig.control.waiting)
    rig.routes.close()
    with pytest.raises(asyncio.CancelledError):
        await task
    await rig.settled()


async def test_made_up_models_push_out_no_route(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MAX_SHEDS", 3)
    await rig.ask(answer("kept", ttl_ms=60_000))
    for number in range(10):
        assert (await rig.ask(SHED, RouteRequest(f"no-{number}"))).shed is not None
    assert len(rig.routes._sheds) == 3
    known = rig.routes.cached(REQUEST)
    assert known is not None
    assert known.decision_id == "kept"


async def test_a_model_that_appears_and_goes_is_answered_as_control_says(rig: Rig) -> None:
    assert (await rig.ask(SHED)).shed is not None
    rig.routes.changed()
    assert (await rig.ask(answer("now"))).shed is None
    rig.routes.changed()
    assert (await rig.ask(SHED)).shed is not None
    assert rig.routes.cached(REQUEST) == SHED


async def test_whoever_asks_after_a_change_does_not_join_a_question_from_before_it(rig: Rig) -> None:
    before = asyncio.ensure_future(rig.routes.route(REQUEST))
    await rig.control.news.until(lambda: rig.control.waiting)
    rig.routes.changed()
    after = asyncio.ensure_future(rig.routes.route(REQUEST))
    await rig.control.news.until(lambda: len(rig.control.waiting) == 2)
    await rig.control.says(answer("old"))
    await rig.control.says(answer("new"))
    assert [(await task).decision_id for task in (before, after)] == ["old", "new"]
