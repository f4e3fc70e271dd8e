"""JetStream through our own link, against a real server: stored once, read once and in order, whatever breaks."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from observe.gathering import Gathering
from streamkit.ops.jetstream import JetError, JetLink, Source, StreamFigures, StreamPlan, TooLargeError
from tests.support.observe import Broker, served
from tests.support.timing import FACTOR

MIB = 1 << 20
TIMEOUT_S = 20.0 * FACTOR
NONE = StreamFigures(messages=0, bytes=0, first=0, last=0, sources=())


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    with served(tmp_path_factory.mktemp("jet"), "here") as ours:
        yield ours


def plan(name: str, **rest: object) -> StreamPlan:
    given = {"subjects": (f"{name}.>",), "max_bytes": MIB, "max_age_s": 600.0, **rest}
    return StreamPlan(name=name, **given)  # type: ignore[arg-type]


async def connected(link: JetLink) -> JetLink:
    assert await link.ready(within_s=TIMEOUT_S)
    return link


def run(work: object) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(TIMEOUT_S):
            await work  # type: ignore[misc]

    asyncio.run(bounded())


async def numbers(link: JetLink, name: str, **options: object) -> list[int]:
    return [int(one.data) async for one in link.messages(name, follow=False, **options)]  # type: ignore[arg-type]


def test_a_stream_is_made_changed_and_reported(broker: Broker):
    async def work() -> None:
        async with JetLink(broker.url, name="test") as link:
            await connected(link)
            assert await link.figures("made") is None
            await link.ensure(plan("made"))
            await link.ensure(plan("made", max_bytes=2 * MIB))
            await link.ensure(plan("made", max_bytes=2 * MIB))
            for number in range(3):
                await link.put("made.x", b"%d" % number, id=f"i-{number}", stream="made")
            found = await link.figures("made")
            assert found is not None
            assert (found.messages, found.first, found.last, found.sources) == (3, 1, 3, ())
            assert await link.reaches("here")
            assert not await link.reaches("elsewhere")

    run(work())


def test_one_id_is_stored_once(broker: Broker):
    async def work() -> None:
        async with JetLink(broker.url, name="test") as link:
            await (await connected(link)).ensure(plan("once"))
            for number in (1, 2, 1, 2, 3):
                await link.put("once.x", b"%d" % number, id=f"i-{number}", stream="once")
            assert await numbers(link, "once") == [1, 2, 3]

    run(work())


def test_it_is_read_from_a_place_from_a_time_and_by_subject(broker: Broker):
    async def work() -> None:
        async with JetLink(broker.url, name="test") as link:
            await (await connected(link)).ensure(plan("read"))
            assert await numbers(link, "read") == []
            for number in range(600):
                await link.put(
                    f"read.{'odd' if number % 2 else 'even'}", b"%d" % number, id=f"r-{number}", stream="read"
                )
            assert await numbers(link, "read") == list(range(600))
            assert await numbers(link, "read", after=590) == list(range(590, 600))
            assert await numbers(link, "read", filters=("read.odd",)) == list(range(1, 600, 2))
            assert await numbers(link, "read", since=datetime.now(UTC)) == []
            assert len(await numbers(link, "read", since=datetime(2020, 1, 1, tzinfo=UTC))) == 600

    run(work())


def test_what_cannot_be_is_said_in_a_line(broker: Broker):
    async def work() -> None:
        async with JetLink(broker.url, name="test") as link:
            with pytest.raises(JetError, match="away"):
                await link.put("x", b"", id="1", stream="x")
            await connected(link)
            with pytest.raises(JetError, match="no stream takes this subject"):
                await link.put("nowhere.x", b"", id="1", stream="nowhere")
            with pytest.raises(JetError):
                await numbers(link, "nonesuch")
            await link.ensure(plan("large"))
            with pytest.raises(TooLargeError):
                await link.put("large.x", b"x" * 70_000, id="1", stream="large")

    run(work())


def test_what_is_too_large_only_with_its_headers_harms_no_connection(broker: Broker):
    async def work() -> None:
        async with JetLink(broker.url, name="test") as link:
            await (await connected(link)).ensure(plan("edge"))
            life = link.lives
            for size in (65_536, 65_500):
                with pytest.raises(TooLargeError):
                    await link.put("edge.x", b"x" * size, id="i-1", stream="edge")
            await link.put("edge.x", b"1", id="i-2", stream="edge")
            assert link.lives == life

    run(work())


def test_a_source_that_a_wake_was_cut_off_from_comes_back(broker: Broker):
    whole = plan("gathers", subjects=(), sources=(Source(stream="mine"), Source(stream="mine", domain="away")))

    async def work() -> None:
        async with JetLink(broker.url, name="test") as link:
            await (await connected(link)).ensure(plan("mine"))
            # Where the first half of a wake was done, and the connection went.
            await link.ensure(replace(whole, sources=whole.sources[:1]))
            gathering = Gathering(link, (whole,))
            task = asyncio.create_task(gathering.run())
            while len(gathering.figures.get("gathers", NONE).sources) < 2:  # noqa: ASYNC110 - under a deadline
                await asyncio.sleep(0.02)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    run(work())


def test_a_stream_that_was_made_anew_is_read_from_its_beginning(broker: Broker):
    async def work() -> None:
        async with JetLink(broker.url, name="test") as link:
            await (await connected(link)).ensure(plan("anew"))
            await link.put("anew.x", b"7", id="a-7", stream="anew")
            assert await numbers(link, "anew", after=100) == [7]

    run(work())


@pytest.mark.slow
def test_a_reader_goes_on_over_the_broker_s_death(broker: Broker):
    async def work() -> None:
        seen: list[int] = []
        async with JetLink(broker.url, name="reader") as link, JetLink(broker.url, name="writer") as writer:
            await (await connected(link)).ensure(plan("lives"))
            await connected(writer)

            async def follow() -> None:
                async for one in link.messages("lives"):
                    seen.append(int(one.data))  # noqa: PERF401 - it is looked at meanwhile

            async def until(count: int) -> None:
                while len(seen) < count:  # noqa: ASYNC110 - under the test's own deadline
                    await asyncio.sleep(0.01)

            task = asyncio.create_task(follow())
            for number in range(20):
                await writer.put("lives.x", b"%d" % number, id=f"l-{number}", stream="lives")
            await until(20)
            await asyncio.to_thread(broker.kill)
            with pytest.raises(JetError):
                await writer.put("lives.x", b"lost", id="l-lost", stream="lives")
            await asyncio.to_thread(broker.start)
            assert await writer.ready(within_s=TIMEOUT_S)
            for number in range(20, 40):
                await writer.put("lives.x", b"%d" % number, id=f"l-{number}", stream="lives")
            await until(40)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        assert seen == list(range(40))

    run(work())
