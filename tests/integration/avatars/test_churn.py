"""Viewers come and go for long while one stays: of those who left, an edge has nothing, collected or not."""

from __future__ import annotations

import asyncio
import gc
import sys
from collections import Counter
from pathlib import Path

import pytest
from aiortc import RTCPeerConnection

from tests.support.avatars import AVATAR, avatar_site
from tests.support.inprocess import until
from tests.support.timing import FACTOR

pytestmark = [pytest.mark.anyio, pytest.mark.slow]
VISITORS = 100
#: Whose objects a viewer is made of.
THEIRS = ("edge", "aiortc", "aioice", "pyee", "OpenSSL", "cryptography", "pylibsrtp", "_cffi_backend", "av", "uvloop")
#: Of units that are under way to the one who stays, and of those that its senders keep in case one is lost.
PASSING = {
    "edge.avatars.tick.Tick",
    "edge.avatars.backlog._Waiting",
    "aiortc.rtp.RtpPacket",
    "aiortc.rtp.HeaderExtensions",
}


@pytest.fixture
def anyio_backend():
    return ("asyncio", {"use_uvloop": True})


@pytest.fixture
def no_collector():
    # An edge's collector is nearly turned off.
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def objects() -> Counter[str]:
    names = (f"{type(one).__module__}.{type(one).__qualname__}" for one in gc.get_objects())
    return Counter(name for name in names if name.split(".")[0] in THEIRS and name not in PASSING)


def connections() -> int:
    return sum(type(one) is RTCPeerConnection for one in gc.get_objects())


def open_files() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


@pytest.mark.usefixtures("no_collector")
async def test_a_hundred_viewers_leave_nothing_behind():
    async with avatar_site(avatars={"resume_ms": 300}) as site:
        command = [sys.executable, "-m", "tests.support.visitors", site.edge.url, f"/v1/avatars/{AVATAR}/whep"]
        visitors = await asyncio.create_subprocess_exec(
            *command, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
        )
        assert visitors.stdin is not None
        assert visitors.stdout is not None
        said, say = visitors.stdout, visitors.stdin
        places = site.edge.parts.avatars._gallery._places
        peers = site.edge.parts.avatars._whep._peers

        async def come_and_go(count: int) -> None:
            say.write(f"{count}\n".encode())
            async with asyncio.timeout(120 * FACTOR):
                assert await said.readline() == b"done\n"
            await until(lambda: len(places) == 1, "only the place of the one who stays is kept", within_s=10)
            await until(lambda: len(peers) == 1, "and its peer")
            # Peers are taken apart half a second after they closed.
            await until(lambda: connections() == 1, "and nothing of others")

        try:
            async with asyncio.timeout(30 * FACTOR):
                assert await said.readline() == b"ready\n"
            await come_and_go(10)  # what is made once and kept is there now
            before, tasks, files = objects(), len(asyncio.all_tasks()), open_files()
            await come_and_go(VISITORS)
            grown = {name: count - before[name] for name, count in objects().items() if count - before[name] > 5}
            assert grown == {}, "no object of a viewer is left, not even for the collector"
            await until(lambda: len(asyncio.all_tasks()) <= tasks, "no task is left")
            await until(lambda: open_files() <= files, "no socket is left")
            say.write(b"\n")
            await visitors.wait()
            await site.quiet()
            assert not places
        finally:
            if visitors.returncode is None:
                visitors.kill()
                await visitors.wait()
