"""Viewers of a face in a process of their own, so that the edge's process holds nothing of theirs.

    python -m tests.support.visitors URL PATH

One stays. For each number on standard input so many come, see the face and leave, and `done` is printed; an empty
line ends it.
"""

from __future__ import annotations

import asyncio
import sys

import httpx
import uvloop

from edge.webrtc import hooks
from tests.support.avatars import Site, Watcher
from tests.support.inprocess import until

__all__ = ["main"]

#: That come side by side.
_ABREAST = 5


async def _visit(site: Site, path: str, room: asyncio.Semaphore) -> None:
    async with room:
        watcher = await site.watch(path)
        await until(lambda: watcher.frames, "it sees the face", within_s=20)
        await watcher.heard("session")
        await watcher.close()
        site.watchers.remove(watcher)
        hooks.forget(watcher.pc)


async def _stay(watcher: Watcher) -> None:
    while True:
        await asyncio.sleep(0.2)
        watcher.frames.clear()
        watcher.sound.clear()


async def main(url: str, path: str) -> None:
    """Come and go."""
    async with httpx.AsyncClient(base_url=url, timeout=20) as http:
        site = Site(None, None, http, None)  # type: ignore[arg-type]  # only what is seen from outside is asked of it
        first = await site.watch(path)
        staying = asyncio.create_task(_stay(first))
        join = first.link("urn:headrace:session")
        print("ready", flush=True)
        while line := (await asyncio.to_thread(sys.stdin.readline)).strip():
            room = asyncio.Semaphore(_ABREAST)
            await asyncio.gather(*(_visit(site, join, room) for _ in range(int(line))))
            print("done", flush=True)
        staying.cancel()
        await http.delete(first.location)
        await first.close()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main(*sys.argv[1:]))
