"""A raw HTTP client that keeps what a real one hides: header order, chunk boundaries, and how a body ended."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

from simulator.server import Simulator
from simulator.settings import SimulatorSettings
from tests.support.timing import MS

LIMIT_S = 10_000 * MS


@dataclasses.dataclass
class Answer:
    """One HTTP answer, taken apart."""

    status: str = ""
    headers: list[tuple[str, str]] = dataclasses.field(default_factory=list)
    chunks: list[bytes] = dataclasses.field(default_factory=list)
    #: "complete", "eof" or "reset"
    end: str = "eof"

    @property
    def code(self) -> int:
        return int(self.status.split()[1])

    @property
    def body(self) -> bytes:
        return b"".join(self.chunks)

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    def header(self, name: str) -> str | None:
        return next((value for key, value in self.headers if key == name), None)

    @property
    def events(self) -> list[str]:
        """The SSE events, comments included, without their blank lines."""
        return [event for event in self.body.decode().replace("\r\n", "\n").split("\n\n") if event]

    @property
    def data(self) -> list[Any]:
        """The JSON of the data events."""
        found = [event[6:] for event in self.events if event.startswith("data: ")]
        return [json.loads(text) for text in found if text != "[DONE]"]

    @property
    def done(self) -> bool:
        return "data: [DONE]" in self.events

    @property
    def text(self) -> str:
        """What was said, streamed or not, by choice 0."""
        if self.header("content-type") == "application/json":
            choice = self.json["choices"][0]
            return choice["message"]["content"] if "message" in choice else choice["text"]
        said = [choice for chunk in self.data for choice in chunk.get("choices", ()) if choice["index"] == 0]
        return "".join(one["text"] if "text" in one else one["delta"].get("content") or "" for one in said)

    @property
    def finish_reason(self) -> str | None:
        reasons = [choice["finish_reason"] for chunk in self.data for choice in chunk.get("choices", ())]
        return next((reason for reason in reasons if reason), None)


async def read_answer(reader: asyncio.StreamReader, *, head_only: bool = False, method: str = "GET") -> Answer:
    """Read one answer from a connection."""
    answer = Answer()
    try:
        async with asyncio.timeout(LIMIT_S):
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
            answer.status = head[0]
            answer.headers = [(line.split(": ", 1)[0], line.split(": ", 1)[1]) for line in head[1:] if line]
    except asyncio.IncompleteReadError:
        return answer
    except ConnectionResetError:
        answer.end = "reset"
        return answer
    return answer if head_only else await read_rest(reader, answer, method)


async def read_rest(reader: asyncio.StreamReader, answer: Answer, method: str = "GET") -> Answer:
    """Read the body behind a head; a body that breaks off keeps what came whole."""
    try:
        async with asyncio.timeout(LIMIT_S):
            await _read_body(reader, answer, method)
    except asyncio.IncompleteReadError as error:
        if error.partial:
            answer.chunks.append(error.partial)
    except ConnectionResetError:
        answer.end = "reset"
    return answer


async def _read_body(reader: asyncio.StreamReader, answer: Answer, method: str) -> None:
    if answer.header("transfer-encoding") == "chunked":
        while size := int(await reader.readuntil(b"\r\n"), 16):
            answer.chunks.append((await reader.readexactly(size + 2))[:-2])
        await reader.readexactly(2)
        answer.end = "complete"
    elif (length := answer.header("content-length")) is not None:
        if method != "HEAD" and int(length):
            answer.chunks.append(await reader.readexactly(int(length)))
        answer.end = "complete"
    else:
        answer.chunks.append(await reader.read())


def request(
    path: str,
    body: Any = None,
    *,
    method: str | None = None,
    headers: dict[str, str] | None = None,
    close: bool = False,
) -> bytes:
    """Return the bytes of a request."""
    raw = b"" if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = [f"{method or ('GET' if body is None else 'POST')} {path} HTTP/1.1", "Host: simulator"]
    if body is not None:
        lines += ["Content-Type: application/json", f"Content-Length: {len(raw)}"]
    lines += [f"{key}: {value}" for key, value in (headers or {}).items()]
    lines += ["Connection: close"] if close else []
    return "\r\n".join([*lines, "", ""]).encode() + raw


def chat(text: str = "Tell me about rivers", *, sim: str | None = None, **more: Any) -> bytes:
    """Return the bytes of a streaming chat request; `sim` becomes its X-Sim header."""
    headers = more.pop("headers", {}) | ({"X-Sim": sim} if sim else {})
    messages = more.pop("messages", [{"role": "user", "content": text}])
    return request("/v1/chat/completions", {"messages": messages, "stream": True, **more}, headers=headers)


async def send(simulator: Simulator, data: bytes, **more: Any) -> Answer:
    """Send one request on a connection of its own, and read the answer."""
    async with connected(simulator) as (reader, writer):
        writer.write(data)
        return await read_answer(reader, method=data.split(b" ", 1)[0].decode(), **more)


@contextlib.asynccontextmanager
async def connected(to: Simulator | int) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A connection to a simulator or a port, closed in the end."""
    reader, writer = await asyncio.open_connection("127.0.0.1", to if isinstance(to, int) else to.port)
    try:
        yield reader, writer
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


@contextlib.asynccontextmanager
async def running(**settings: Any) -> AsyncIterator[Simulator]:
    """A simulator that answers quickly, unless `settings` say otherwise."""
    simulator = await Simulator.start(SimulatorSettings(**{"ttft_ms": 2.0, "itl_ms": 1.0, **settings}))
    try:
        yield simulator
    finally:
        await simulator.close()


async def until(condition: Callable[[], bool], what: str) -> float:
    """Wait until `condition` holds; return how many seconds that took."""
    start = time.monotonic()
    while not condition():
        if time.monotonic() - start > LIMIT_S:
            raise AssertionError(f"not in time: {what}")
        await asyncio.sleep(0.001)
    return time.monotonic() - start
