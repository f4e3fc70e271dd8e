"""Long polls: who is woken, who waits, and who counts as live."""

from __future__ import annotations

import asyncio
import time

import msgspec
import pytest

from streamkit.wire.backend import Backend
from streamkit.wire.keys import KeyRecord, KeySnapshot
from streamkit.wire.state import SyncRequest
from tests.integration.control_desk import TIMEOUT_MS, desk, free_url, report, waiting

pytestmark = pytest.mark.anyio


async def test_a_changed_key_snapshot_wakes_every_waiting_sync():
    async with desk() as control:
        first = await control.sync(report())
        waits = [asyncio.create_task(control.sync(report(), first.header.sequence, 30_000)) for _ in range(50)]
        await waiting(control, 50)
        keys = KeySnapshot(version=1, required=True, keys=(KeyRecord(id="k", sha256="00" * 32, tenant="t"),))
        control.control.registry.set_keys(keys)
        async with asyncio.timeout(TIMEOUT_MS / 1000):
            snapshots = await asyncio.gather(*waits)
        assert {snapshot.header.sequence for snapshot in snapshots} == {first.header.sequence + 1}
        assert all(snapshot.keys == keys for snapshot in snapshots)


async def test_a_sync_without_news_waits_its_time():
    async with desk() as control:
        first = await control.sync(report())
        began = time.monotonic()
        second = await control.sync(report(sequence=1, streams=5), first.header.sequence, 60)
        assert time.monotonic() - began >= 0.05
        assert second.header.sequence == first.header.sequence
        assert second.edges[0].streams == 5


@pytest.mark.parametrize("offset", [-1_000, 1_000_000])
async def test_a_sequence_of_another_life_is_answered_at_once(offset):
    async with desk() as control:
        first = await control.sync(report())
        async with asyncio.timeout(TIMEOUT_MS / 1000):
            again = await control.sync(report(), first.header.sequence + offset, 30_000)
        assert again.header == first.header


async def test_an_edge_is_live_while_it_waits_and_lost_after_it_left():
    async with desk(edge_lost_ms=40) as control:
        first = await control.sync(report("waiting.0.1"))
        held = asyncio.create_task(control.sync(report("waiting.0.1"), first.header.sequence, 30_000))
        await waiting(control, 1)
        quiet = await control.sync(report("quiet.0.1"))
        async with asyncio.timeout(TIMEOUT_MS / 1000):
            assert {edge.header.instance for edge in (await held).edges} == {"quiet.0.1", "waiting.0.1"}
            # One edge holds a sync through the other's loss.
            after = quiet
            while [edge.header.instance for edge in after.edges] != ["waiting.0.1"]:
                after = await control.sync(report("waiting.0.1"), after.header.sequence, 30_000)


async def test_a_closed_connection_ends_its_wait():
    async with desk() as control:
        first = await control.sync(report())
        _, writer = await asyncio.open_connection("127.0.0.1", int(control.url.rpartition(":")[2]))
        body = msgspec.json.encode(
            SyncRequest(edge=report("gone.0.1"), after=first.header.sequence + 1, wait_ms=30_000)
        )
        writer.write(b"POST /v1/sync HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % len(body) + body)
        await waiting(control, 1)
        writer.close()
        await writer.wait_closed()
        await waiting(control, 0)


async def test_draining_edges_have_no_share():
    backend = Backend(name="b", engine="vllm", url=free_url(), models=("m",))
    async with desk(backend, probe_interval_ms=60_000) as control:
        await control.sync(report("a.0.1"))
        await control.sync(report("b.0.1"))
        view = control.control.board.view
        assert view.live_edges == 2
        await control.sync(report("b.0.1", sequence=1, draining=True))
        assert control.control.board.view.live_edges == 1
