"""A real NATS server for tests, and arbiters that are nothing but their publications."""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from core_gpu.arbiter.publisher import Publisher
from launch.broker import NatsSettings
from launch.broker import broker as program
from streamkit.ops.nats_link import NatsLink
from streamkit.wire.ids import Instance
from streamkit.wire.state import Pressure
from tests.support.processes import Running, running, until

__all__ = ["Broker", "Voice", "broker", "voice"]


@dataclass
class Broker:
    """A running NATS server."""

    running: Running
    url: str

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self.url.rsplit(":", 1)[1])


@contextlib.contextmanager
def broker(folder: Path, *, port: int = 0) -> Iterator[Broker]:
    """Run a NATS server for the length of the block; a port of 0 takes a free one."""
    what = program(NatsSettings(), folder, port)
    with running(what.line, folder, name="nats") as ours:
        ready = until(lambda: what.ready(ours.pid), what="the NATS server listens")
        assert ready is not None
        yield Broker(ours, ready["url"])


@dataclass
class Voice:
    """What an arbiter says; change `pressure` and it is said within 50 ms."""

    instance: Instance
    pressure: dict[str, Pressure] = field(default_factory=dict)


@contextlib.contextmanager
def voice(url: str, instance: Instance, **pressure: Pressure) -> Iterator[Voice]:
    """Publish pressure as the arbiter `instance` for the length of the block, from a thread of its own."""
    ours = Voice(instance, dict(pressure))
    loop = asyncio.new_event_loop()
    over = asyncio.Event()

    async def speak() -> None:
        async with NatsLink(url, name=json.dumps(str(instance))) as link:
            task = asyncio.create_task(Publisher(link, instance, lambda: ours.pressure, every_s=0.05).run())
            await over.wait()
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    thread = threading.Thread(target=lambda: loop.run_until_complete(speak()), name=str(instance))
    thread.start()
    try:
        yield ours
    finally:
        loop.call_soon_threadsafe(over.set)
        thread.join(10)
        loop.close()
