"""Something for every panel: streams that wait in line, leave, or are refused; leases; frames of an avatar."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import socket
import time
from collections.abc import Awaitable, Callable
from typing import Final
from urllib.parse import urlsplit

from websockets.asyncio.client import connect

from loadtest.avatar import inference
from loadtest.lease.load import handshakes_sync
from loadtest.live.site import AVATAR, MODEL, Site
from streamkit.ops.http_client import HttpClient

__all__ = ["Load"]

_CALL_MS: Final = 30_000
#: What a reader's kernel takes for it; the kernel doubles it.
_NARROW_BYTES: Final = 8_192
_THINKS_S: Final = 3.0
#: One visit to the avatar.
_WATCHES_S: Final = 4.0


class Load:
    """Runs for so long, and keeps what its own clock says.

    Args:
        site: what is loaded.
        seconds: how long.
        chats: requests a second, with random pauses between them (seeded).
        burst: requests that come at once in the middle, more than the engine takes at a time.
    """

    def __init__(self, site: Site, *, seconds: float, chats: float = 6.0, burst: int = 24) -> None:
        self._site = site
        self._seconds = seconds
        self._chats = chats
        self.burst = burst
        #: When they come, in seconds from the beginning.
        self.burst_s = seconds / 2
        self._dice = random.Random(7)
        #: From sending a request to its first event, in seconds, of each stream that had one.
        self.ttft_s: list[float] = []
        #: Statuses of those that had none.
        self.refused: list[int] = []

    async def run(self) -> None:
        """Load it; what goes wrong where nothing should is raised."""
        end = time.monotonic() + self._seconds
        half = time.monotonic() + self.burst_s
        async with HttpClient(max_connections=256) as http, asyncio.TaskGroup() as group:
            group.create_task(asyncio.to_thread(self._leases))
            if self._site.whole:
                group.create_task(self._again(self._slow_reader, 0.5, end))
                group.create_task(asyncio.to_thread(self._faces))
                group.create_task(self._face(end))
            group.create_task(self._again(lambda: self._strange(http), 0.5, end))
            while (now := time.monotonic()) < end:
                group.create_task(self._chat(http, leaves=self._dice.random() < 0.1))
                if now >= half:
                    half = end
                    for _ in range(self.burst):
                        group.create_task(self._chat(http, leaves=False))
                await asyncio.sleep(self._dice.expovariate(self._chats))

    async def _face(self, end_s: float) -> None:
        """Watch an avatar over a WebSocket, have it speak, and come again."""
        url = self._site.edge.replace("http", "ws", 1)
        while time.monotonic() < end_s:
            async with connect(f"{url}/v1/avatars/{AVATAR}/ws", max_size=None) as socket:
                await socket.send(json.dumps({"type": "say", "text": "Water comes down and turns the wheel."}))
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_WATCHES_S):
                        async for _ in socket:
                            pass

    async def _chat(self, http: HttpClient, *, leaves: bool) -> None:
        words = " ".join(
            self._dice.choices(("river", "mill", "wheel", "gate", "stone"), k=self._dice.randint(5, 120))
        )
        # A shared beginning, so that the engine's prefix cache has something to find.
        said = f"You are the keeper of a mill, and you answer in one sentence. {words}"
        body = {
            "model": MODEL,
            "stream": True,
            "max_tokens": self._dice.randint(20, 60),
            "messages": [{"role": "user", "content": said}],
        }
        begun = time.perf_counter()
        call = http.stream_lines(
            f"{self._site.edge}/v1/chat/completions", body, timeout_ms=_CALL_MS, idle_ms=_CALL_MS
        )
        async with call as answer:
            if answer.status != 200:
                self.refused.append(answer.status)
                return
            async for line in answer.lines:
                if line.startswith("data:"):
                    self.ttft_s.append(time.perf_counter() - begun)
                    break
            if not leaves:
                async for _ in answer.lines:
                    pass

    async def _strange(self, http: HttpClient) -> None:
        """Ask for what is not there, which the edge refuses, and for nothing at all, which the engine does."""
        for body in ({"model": "nobody-has-this", "messages": []}, {"model": MODEL}):
            answer = await http.post_json(f"{self._site.edge}/v1/chat/completions", body, timeout_ms=_CALL_MS)
            self.refused.append(answer.status)

    async def _again(self, call: Callable[[], Awaitable[None]], every_s: float, end_s: float) -> None:
        while time.monotonic() < end_s:
            await call()
            await asyncio.sleep(every_s)

    async def _slow_reader(self) -> None:
        """Ask for much more than is read at first: the edge pauses the engine, and nothing is lost."""
        place = urlsplit(self._site.edge)
        with socket.socket() as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _NARROW_BYTES)
            sock.setblocking(False)
            loop = asyncio.get_running_loop()
            await loop.sock_connect(sock, (place.hostname, place.port))
            body = b'{"model":"%b","stream":true,"messages":[{"role":"user","content":"go on"}]}' % MODEL.encode()
            head = (
                f"POST /v1/chat/completions HTTP/1.1\r\nHost: {place.netloc}\r\nContent-Type: application/json\r\n"
                f"X-Sim: tokens=6000,itl_ms=0.2\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
            )
            await loop.sock_sendall(sock, head.encode() + body)
            await loop.sock_recv(sock, 1)
            await asyncio.sleep(_THINKS_S)
            while await loop.sock_recv(sock, 65_536):
                pass

    def _leases(self) -> None:
        handshakes_sync(self._site.grpc("arbiter"), holders=2, count=int(20 * self._seconds), rate=20)

    def _faces(self) -> None:
        import grpc  # noqa: PLC0415  only here

        end = time.monotonic() + self._seconds
        with grpc.insecure_channel(self._site.grpc("inference")) as channel:
            while time.monotonic() < end:
                inference.encodings(channel)
                inference.sound(channel)
                time.sleep(0.3)  # a face that speaks now and then, and leaves the machine to the streams
