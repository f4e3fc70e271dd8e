"""A resumable stream between a stream and outlets that a test plays; the whole of it is in test_resume.py."""

from __future__ import annotations

import asyncio
from time import monotonic

import pytest

from edge.protocol.states import StreamState
from edge.streams.kept import Owner
from edge.streams.shelf import Shelf, ShelfSettings
from streamkit.flow.budget import Budget
from streamkit.ops import catalog
from streamkit.ops.metrics import Metrics
from streamkit.wire.errors import Code, HeadraceError
from streamkit.wire.ids import Instance, StreamIds
from tests.support.timing import MS
from tests.unit.edge.scripted import DEADLINE_S, DONE, NEVER_S, Outlet, delta, stream, turning

pytestmark = pytest.mark.anyio
OWNER = Owner("t", "k")


class Rig:
    def __init__(self, *, window_ms: float = 0, slow_reader_ms: float = 0, **deadlines: float) -> None:
        self.metrics = Metrics()
        self.budget = Budget(1 << 20)
        self.shelf = Shelf(
            StreamIds(Instance("n", 0, "1"), bytes(32)),
            ShelfSettings(
                longest_s=60, ring_bytes=1 << 16, rings_bytes=1 << 18, slow_reader_s=slow_reader_ms * MS or NEVER_S
            ),
            self.budget.account("rings"),
            self.metrics,
        )
        self.stream = stream(self.metrics, kept=True, **deadlines)
        self.kept = self.shelf.keep(self.stream, OWNER, window_ms * MS or NEVER_S)
        self.reading = self.kept.first()
        self.outlet = Outlet()

    def begin(self) -> None:
        self.stream.commit()
        self.reading.attach(self.outlet)

    def feed(self, *texts: str) -> None:
        for text in texts:
            self.stream.feed(delta(text), 1, monotonic())

    def clean(self) -> None:
        assert self.budget.used_bytes == 0
        assert self.metrics.value(catalog.STREAMS_KEPT) == 0


def numbered(first: int, *texts: str) -> bytes:
    return b"".join(b"id: %d\n%b" % (number, delta(text)) for number, text in enumerate(texts, first))


async def test_a_reader_that_is_up_to_date_gets_each_feed_in_one_write() -> None:
    rig = Rig()
    rig.begin()
    rig.feed("a", "b")
    rig.stream.feed(delta("c") + delta("d"), 2, monotonic())
    assert rig.outlet.writes == [numbered(1, "a"), numbered(2, "b"), numbered(3, "c", "d")]
    rig.kept.stop()
    assert rig.stream.cause == "stopped"
    rig.clean()


async def test_what_a_paused_reader_misses_comes_together_later() -> None:
    rig = Rig()
    rig.begin()
    rig.outlet.open = False
    rig.feed("a", "b", "c")
    assert rig.outlet.writes == [numbered(1, "a")]
    rig.outlet.open = True
    assert rig.outlet.on_resume is not None
    rig.outlet.on_resume()
    assert rig.outlet.writes == [numbered(1, "a"), numbered(2, "b", "c")]
    assert not rig.stream.paused, "the ring is between the two"
    rig.kept.stop()
    rig.clean()


@pytest.mark.parametrize("relayed", [False, True])
async def test_a_relayed_reader_is_given_four_times_as_long(relayed: bool) -> None:
    rig = Rig(slow_reader_ms=20)
    rig.begin()
    outlet = Outlet()
    reading = rig.kept.read(0, relayed=relayed)
    reading.attach(outlet)
    outlet.open, outlet.unsent, began = False, 70_000, monotonic()
    rig.feed("a")
    await outlet.news.until(lambda: outlet.aborted)
    assert monotonic() - began >= (79 if relayed else 19) * MS
    assert rig.stream.state is StreamState.DETACHED
    await asyncio.wait_for(reading.ended(), DEADLINE_S)
    rig.kept.stop()
    rig.clean()


async def test_the_window_ends_a_stream_that_nobody_reads() -> None:
    rig = Rig(window_ms=20)
    told: list[StreamState] = []
    rig.stream.on_gone = lambda: told.append(rig.stream.state)
    rig.begin()
    rig.feed("a")
    rig.reading.gone()
    assert rig.stream.state is StreamState.DETACHED
    rig.feed("b")
    await turning(lambda: rig.stream.state.ended)
    assert told == [StreamState.EXPIRED]
    assert rig.stream.cause == "expired"
    with pytest.raises(HeadraceError) as gone:
        rig.shelf.find(rig.kept.stream_id, OWNER)
    assert gone.value.code is Code.GONE
    rig.clean()


async def test_a_failure_before_anything_was_sent_leaves_nothing_behind() -> None:
    rig = Rig()
    rig.stream.fail(HeadraceError(Code.SATURATED, "full"))
    await asyncio.wait_for(rig.reading.decided(), DEADLINE_S)
    assert rig.reading.reply is not None
    assert rig.reading.reply.status == 429
    rig.reading.gone()
    rig.clean()


async def test_a_gap_never_looks_whole_even_if_the_engine_ends_well() -> None:
    """Memory is used up, and the engine's end comes before anybody could be told."""
    rig = Rig()
    rig.begin()
    rig.feed("a")
    rig.shelf.settings = ShelfSettings(longest_s=60, ring_bytes=1 << 16, rings_bytes=0, slow_reader_s=NEVER_S)
    rig.feed("b" * 5_000, "c")
    rig.stream.feed(DONE, 1, monotonic())
    rig.stream.finish()
    await asyncio.wait_for(rig.reading.ended(), DEADLINE_S)
    assert b'"code":"out_of_memory"' in rig.outlet.text
    assert rig.outlet.text.endswith(DONE)
    rig.kept.stop()
    rig.clean()
