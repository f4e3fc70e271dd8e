"""The load side: viewers that negotiate, receive and decode nothing. `python -m loadtest.viewers.client URL N`.

Prints `ready` once all are connected, and leaves when its standard input ends.
"""

from __future__ import annotations

import asyncio
import sys

import httpx
import uvloop
from aiortc import RTCPeerConnection

from loadtest.viewers.blind import begun, blind, offered

__all__ = ["main"]

_CONNECT_S = 30.0


def main() -> None:
    """Run viewers."""
    blind()
    uvloop.run(_watch(sys.argv[1], int(sys.argv[2])))


async def _watch(url: str, count: int) -> None:
    peers: list[RTCPeerConnection] = []
    async with httpx.AsyncClient(timeout=_CONNECT_S) as http:
        for _ in range(count):
            peer = begun()
            peer.createDataChannel("bench")
            answer = await offered(peer, http, url)
            peers.append(peer)
            if len(peers) == 1:
                url = _joined(url, answer)
        async with asyncio.timeout(_CONNECT_S):
            while any(peer.connectionState != "connected" for peer in peers):  # noqa: ASYNC110  it is enough here
                await asyncio.sleep(0.01)
    print("ready", flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    await asyncio.gather(*(peer.close() for peer in peers))


def _joined(url: str, answer: httpx.Response) -> str:
    """Return where the others watch the same session, if the server has such a thing."""
    for link in answer.headers.get_list("link"):
        if 'rel="urn:headrace:session"' in link:
            return str(httpx.URL(url).join(link[link.index("<") + 1 : link.index(">")]))
    return url


if __name__ == "__main__":
    main()
