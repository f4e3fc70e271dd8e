"""Long polls of control's state, against a small real server."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections.abc import AsyncIterator, Callable

import msgspec
import pytest

from edge.routing import state as module
from edge.routing.state import HttpStateSource
from streamkit.ops.http_client import HttpClient
from streamkit.wire.state import EdgeReport, Header, Snapshot
from tests.support.timing import MS
from tests.unit.edge.scripted import News
from tests.unit.edge.sources.engines import Engine, Line

pytestmark = pytest.mark.anyio
Answer = Callable[[Line], Snapshot | bytes | None]


def snapshot(sequence: int, instance: str = "control") -> Snapshot:
    return Snapshot(header=Header(instance=instance, sequence=sequence))


class Rig:
    """A control that answers by `answer`, and what the edge heard."""

    def __init__(self) -> None:
        self.polls: list[dict[str, object]] = []
        self.heard: list[Snapshot] = []
        self.reports = 0
        self.news = News()
        self.answer: Answer = lambda _: snapshot(1)

    async def serve(self, line: Line) -> bool:
        assert line.head.startswith(b"POST /v1/sync ")
        self.polls.append(json.loads(line.body))
        self.news.tell()
        said = self.answer(line)
        if said is None:
            await line.gone()
            return False
        status = b"200 OK"
        body = said if isinstance(said, bytes) else msgspec.json.encode(said)
        if body.startswith(b"!"):
            status, body = b"500 No", body[1:]
        await line.send(b"HTTP/1.1 %b\r\ncontent-length: %d\r\n\r\n%b" % (status, len(body), body))
        return True

    def report(self) -> EdgeReport:
        self.reports += 1
        return EdgeReport(header=Header(instance="edge", sequence=self.reports), streams=self.reports)

    def changed(self, found: Snapshot) -> None:
        self.heard.append(found)
        self.news.tell()


@contextlib.asynccontextmanager
async def running(rig: Rig, *, wait_ms: int = 30_000) -> AsyncIterator[HttpStateSource]:
    async with Engine(rig.serve) as engine, HttpClient() as http:
        source = HttpStateSource(http, engine.url + "/", report=rig.report, wait_ms=wait_ms, on_change=rig.changed)
        task = asyncio.ensure_future(source.run())
        try:
            yield source
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task


async def test_before_it_has_heard_anything_it_knows_nothing() -> None:
    rig = Rig()
    rig.answer = lambda _: None
    async with running(rig) as source:
        await rig.news.until(lambda: rig.polls)
        assert (source.snapshot, source.age_ms) == (None, None)


async def test_the_first_poll_does_not_wait_and_the_next_ones_do() -> None:
    rig = Rig()
    rig.answer = lambda _: snapshot(7) if len(rig.polls) == 1 else None
    async with running(rig) as source:
        await rig.news.until(lambda: len(rig.polls) == 2)
        first, second = rig.polls
        assert (first["after"], first["wait_ms"]) == (0, 0)
        assert (second["after"], second["wait_ms"]) == (7, 30_000)
        assert [poll["edge"]["streams"] for poll in rig.polls] == [1, 2], "each poll has a new report"  # type: ignore[index]
        assert source.snapshot == snapshot(7)
        assert rig.heard == [snapshot(7)]
        assert source.age_ms is not None
        assert source.age_ms >= 0


async def test_every_change_is_told_once() -> None:
    rig = Rig()
    sequences = iter([1, 1, 2, 2, 3])
    rig.answer = lambda _: snapshot(found) if (found := next(sequences, 0)) else None
    async with running(rig):
        await rig.news.until(lambda: len(rig.polls) == 6)
        assert [found.header.sequence for found in rig.heard] == [1, 2, 3]


async def test_a_new_control_with_the_same_sequence_is_a_change() -> None:
    rig = Rig()
    lives = iter(["one", "two"])
    rig.answer = lambda _: snapshot(5, life) if (life := next(lives, "")) else None
    async with running(rig):
        await rig.news.until(lambda: len(rig.polls) == 3)
        assert [found.header.instance for found in rig.heard] == ["one", "two"]


async def test_a_control_that_holds_no_poll_is_not_hammered() -> None:
    rig = Rig()
    async with running(rig, wait_ms=0):
        await rig.news.until(lambda: rig.heard)
        over = asyncio.Event()
        asyncio.get_running_loop().call_later(0.3, over.set)
        before = len(rig.polls)
        await over.wait()
        assert 1 <= len(rig.polls) - before <= 8


@pytest.mark.parametrize("fault", [b"!{}", b"<html>", b'{"header":{}}', b""])
async def test_a_fault_is_logged_once_and_what_is_known_stays(
    fault: bytes, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_RETRY_S", (5 * MS, 10 * MS))
    rig = Rig()

    def answer(_: Line) -> Snapshot | bytes | None:
        if len(rig.polls) == 1:
            return snapshot(1)
        if len(rig.polls) <= 4:
            return fault
        return snapshot(2) if len(rig.polls) == 5 else None

    rig.answer = answer
    with caplog.at_level(logging.INFO, logger="headrace.edge.state"):
        async with running(rig) as source:
            await rig.news.until(lambda: len(rig.polls) == 4)
            assert source.snapshot == snapshot(1)
            await rig.news.until(lambda: len(rig.polls) == 6)
            assert source.snapshot == snapshot(2)
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]


async def test_age_counts_from_the_last_word_news_or_not() -> None:
    rig = Rig()
    rig.answer = lambda _: snapshot(1) if len(rig.polls) <= 3 else None
    async with running(rig) as source:
        await rig.news.until(lambda: len(rig.polls) == 4)
        assert len(rig.heard) == 1
        assert source.age_ms is not None
        assert source.age_ms < 5_000
