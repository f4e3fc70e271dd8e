"""Viewers leave nothing behind: no task, no socket, no peer."""

from __future__ import annotations

import asyncio
import gc
import weakref
from pathlib import Path

import pytest

from tests.support.avatars import AVATAR, OFFER, Site, avatar_site
from tests.support.inprocess import until

pytestmark = [pytest.mark.anyio, pytest.mark.slow]
WHEP = f"/v1/avatars/{AVATAR}/whep"


@pytest.fixture
def anyio_backend():
    return ("asyncio", {"use_uvloop": True})


@pytest.fixture(autouse=True)
def no_collector():
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def open_files() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


async def connected_and_gone(site: Site) -> weakref.ref:
    watcher = await site.watch()
    await until(lambda: watcher.frames, "it still works")
    peer = weakref.ref(next(iter(site.edge.parts.avatars._whep._peers.values())))
    await watcher.close()
    await site.quiet()
    # The other side's frames and callbacks live in this process, too.
    site.watchers.remove(watcher)
    return peer


async def test_tasks_sockets_and_peers_are_gone_when_viewers_are():
    async with avatar_site(avatars={"resume_ms": 0}, webrtc={"connect_ms": 60_000}) as site:
        offers = [(await site.offer())[1] for _ in range(3)]
        peers = site.edge.parts.avatars._whep._peers

        async def one(offer: str) -> weakref.ref:
            answer = await site.http.post(WHEP, content=offer, headers=OFFER)
            assert answer.status_code == 201
            peer = weakref.ref(next(iter(peers.values())))
            await site.http.delete(answer.headers["location"])
            await site.quiet()
            return peer

        await one(offers[0])  # what is made once and kept is there now
        tasks, files = len(asyncio.all_tasks()), open_files()
        gone = [await one(offer) for offer in offers * 3]
        await until(lambda: len(asyncio.all_tasks()) <= tasks, "no task is left")
        await until(lambda: open_files() <= files, "no socket is left")
        # An edge's collector is nearly turned off: they must come apart by themselves.
        await until(lambda: not any(peer() for peer in gone), "no peer is left")
        left = await connected_and_gone(site)
        await until(lambda: left() is None, "one that was connected is gone as well")
