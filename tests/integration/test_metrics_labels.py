"""Nothing that a client makes up becomes a label: the page stays as long as it was, whatever is asked."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from uuid import uuid4

import pytest

from streamkit.wire.route import Candidate, RouteAnswer, Shed
from tests.support.inprocess import DONE, MODEL, RunningEdge, ScriptedExchange, chunk, finish, running_edge, until
from tests.support.raw import Raw, post
from tests.support.websocket import opened

pytestmark = pytest.mark.anyio


async def answers(exchange: ScriptedExchange) -> None:
    await exchange.stream(chunk("a"), chunk("b"), chunk("c"), finish(), DONE)


def series(edge: RunningEdge) -> set[str]:
    page = edge.parts.metrics.exposition()[0].decode()
    return {line.rpartition(" ")[0] for line in page.splitlines() if not line.startswith("#")}


async def made_up(edge: RunningEdge, number: int) -> None:
    """Ask in every way that a client can name something, by names that nobody has used before."""
    name = f"madeup{number}{uuid4().hex[:8]}"
    headers = {
        "x-headrace-session": name,
        "x-request-id": name,
        "user-agent": name,
        "authorization": f"Bearer {name}",
        "traceparent": f"00-{uuid4().hex}-{uuid4().hex[:16]}-01",
    }
    async with Raw.to(edge.url) as client:
        await client.ask(post({"model": MODEL, "stream": True, "user": name}, headers=headers))
        for path in (f"/{name}", f"/v1/models/{name}", f"/v1/streams/{name}"):
            await client.ask(post(path=path, method="GET", headers={**headers, "content-length": ""}))
        await client.ask(post({"model": MODEL, "stream": 7}, headers=headers))
    with contextlib.suppress(ConnectionError):
        async with opened(edge.url) as socket:
            await socket.connection.send(f'{{"type":"{name}"}}')
            await socket.connection.recv()
            await socket.connection.close(4000 + number)


async def settled(edge: RunningEdge, *, sockets: int) -> None:
    await edge.quiet()
    await until(lambda: edge.metric("headrace_sockets_closed_total") == sockets, "all sockets are counted")


async def test_made_up_names_make_no_series():
    async with running_edge(answers) as edge:
        for number in range(12):
            await made_up(edge, number)
            await settled(edge, sockets=number + 1)
            if number == 0:
                before = series(edge)
        after = series(edge)
        assert after == before
        assert not [line for line in after if "madeup" in line]
        assert edge.metric("headrace_stream_events_total", model=MODEL) == 12 * 5


async def test_models_that_nobody_serves_are_counted_by_code_alone():
    def unknown(_: Sequence[Candidate]) -> RouteAnswer:
        return RouteAnswer(decision_id="d", ttl_ms=1, shed=Shed(code="model_not_found", message="No such model."))

    async with running_edge(answers, route=unknown) as edge, Raw.to(edge.url) as client:
        for number in range(20):
            answer = await client.ask(post({"model": f"madeup-{number}", "stream": True}))
            assert answer.status == 404
        assert not [line for line in series(edge) if "madeup" in line]
        assert edge.metric("headrace_refused_total", code="model_not_found") == 20
        assert edge.metric("headrace_streams_total") == 0


async def test_what_the_edge_adds_is_the_time_to_the_first_token_less_the_engine_s():
    async with running_edge(answers) as edge, Raw.to(edge.url) as client:
        for _ in range(5):
            await client.ask(post({"model": MODEL, "stream": True}))
        await edge.quiet()
        served, pulled, added = (
            edge.metric(f"{name}_sum")
            for name in (
                "gen_ai_server_time_to_first_token_seconds",
                "gen_ai_client_operation_time_to_first_chunk_seconds",
                "headrace_added_delay_seconds",
            )
        )
        assert edge.metric("headrace_added_delay_seconds_count", operation="chat") == 5
        assert added == pytest.approx(served - pulled, abs=1e-6)
        assert 0 < added < served
        assert edge.metric("headrace_stream_longest_gap_seconds_count", model=MODEL) == 5
        assert edge.metric("headrace_stream_gap_seconds_count", model=MODEL) == edge.metric(
            "gen_ai_client_operation_time_per_output_chunk_seconds_count", backend="engine-0"
        )
