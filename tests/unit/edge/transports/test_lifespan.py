from __future__ import annotations

import asyncio

import pytest

from edge.transports.lifespan import serve_lifespan
from tests.unit.edge.transports.asgi import Message

pytestmark = pytest.mark.anyio


async def test_start_comes_first_and_stop_last() -> None:
    happened: list[str] = []
    inbox: asyncio.Queue[Message] = asyncio.Queue()

    async def note(what: str) -> None:
        happened.append(what)

    async def send(message: Message) -> None:
        happened.append(message["type"])

    task = asyncio.ensure_future(serve_lifespan(inbox.get, send, lambda: note("start"), lambda: note("stop")))
    inbox.put_nowait({"type": "lifespan.startup"})
    inbox.put_nowait({"type": "lifespan.shutdown"})
    await asyncio.wait_for(task, 5)
    assert happened == ["start", "lifespan.startup.complete", "stop", "lifespan.shutdown.complete"]


async def test_a_failed_start_is_raised_and_nothing_is_said_to_be_complete() -> None:
    async def receive() -> Message:
        return {"type": "lifespan.startup"}

    async def fail() -> None:
        raise OSError("no")

    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    with pytest.raises(OSError, match="no"):
        await serve_lifespan(receive, send, fail, fail)
    assert sent == []
