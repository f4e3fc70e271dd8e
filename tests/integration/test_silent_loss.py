"""Clients whose network goes away without a word: found by the kernel within the time that the settings give (law 6).

The test makes two network namespaces with a cable between them and pulls it out. Everything listens inside them.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from time import monotonic

import pytest

from streamkit.wire.keys import KeyRecord, KeySnapshot, digest, new_key
from tests.support.inprocess import MODEL, ScriptedExchange, chunk, running_edge, until
from tests.support.needs import program
from tests.support.raw import Raw, post
from tests.support.timing import SOON_S

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

_CLONE_NEWNET = 0x40000000
SERVER, CLIENT = "192.0.2.1", "192.0.2.2"  # RFC 5737: on no real network
STREAM = {"model": MODEL, "stream": True}


@dataclass
class Cable:
    """A network of two ends; new sockets of this thread belong to the server's."""

    ip: str
    name: str

    def run(self, *words: str) -> None:
        """Run `ip`."""
        subprocess.run([self.ip, *words], check=True, capture_output=True, timeout=10)

    @contextlib.contextmanager
    def inside(self, end: str) -> Iterator[None]:
        """Make new sockets of this thread belong to one end while the block runs."""
        libc = ctypes.CDLL(None, use_errno=True)
        with Path("/proc/thread-self/ns/net").open() as home, Path(f"/run/netns/{self.name}-{end}").open() as there:
            if libc.setns(there.fileno(), _CLONE_NEWNET):
                raise OSError(ctypes.get_errno(), "setns")
            try:
                yield
            finally:
                libc.setns(home.fileno(), _CLONE_NEWNET)

    def pull(self) -> None:
        """Take the network away; neither end is told by the other."""
        self.run("-n", f"{self.name}-c", "link", "set", "cable", "down")


#: Beyond loopback nobody is served without a key.
KEY = new_key()
KEYS = KeySnapshot(version=1, required=True, keys=(KeyRecord(id="k", sha256=digest(KEY), tenant="t"),))
AUTHORIZED = {"authorization": f"Bearer {KEY}"}


@pytest.fixture
def cable() -> Iterator[Cable]:
    if sys.platform != "linux":
        pytest.skip("network namespaces are Linux's")
    cable = Cable(program("ip"), f"headrace-test-{os.getpid()}")
    server, client = f"{cable.name}-s", f"{cable.name}-c"
    try:
        cable.run("netns", "add", server)
    except subprocess.CalledProcessError as exc:
        pytest.skip(f"needs the right to make network namespaces: {exc.stderr.decode().strip()}")
    try:
        cable.run("netns", "add", client)
        cable.run("-n", server, "link", "add", "cable", "type", "veth", "peer", "name", "cable", "netns", client)
        for end, address in ((server, SERVER), (client, CLIENT)):
            cable.run("-n", end, "address", "add", f"{address}/24", "dev", "cable")
            cable.run("-n", end, "link", "set", "cable", "up")
            cable.run("-n", end, "link", "set", "lo", "up")
        yield cable
    finally:
        for end in (server, client):
            subprocess.run([cable.ip, "netns", "del", end], check=False, capture_output=True, timeout=10)


def client_of(cable: Cable, url: str) -> Raw:
    with cable.inside("c"):
        return Raw.to(url)


async def flows(exchange: ScriptedExchange) -> None:
    await exchange.head()
    while not exchange.closed.is_set():
        await exchange.send(chunk("token"))
        await asyncio.sleep(0.02)


async def silent(exchange: ScriptedExchange) -> None:
    await exchange.closed.wait()


#: A whole second is the kernel's unit for keep-alive, so two seconds are the shortest time that it can be given.
USER_TIMEOUT_MS = 2_000
#: It looks when a timer of its own is due: a second or two later than it was told.
WITHIN_S = USER_TIMEOUT_MS / 1000 + 4


@pytest.mark.parametrize(
    ("engine", "body"),
    [(flows, STREAM), (silent, STREAM), (silent, {"model": MODEL})],
    ids=["mid-stream", "before the first event", "non-streaming"],
)
async def test_a_client_whose_network_is_gone_is_found_and_its_engine_stopped(cable, engine, body):
    settings = {"host": SERVER, "user_timeout_ms": USER_TIMEOUT_MS, "slow_reader_ms": 600_000}
    with cable.inside("s"):
        async with running_edge(engine, keys=KEYS, **settings) as edge, client_of(cable, edge.url) as client:
            await client.send(post(body, headers=AUTHORIZED))
            exchange = await edge.engine.asked()
            if engine is flows:
                await client.until(b"token")
            cable.pull()
            began = monotonic()
            await until(exchange.closed.is_set, "the upstream is closed", within_s=WITHIN_S)
            took_s = monotonic() - began
            print(f"found after {took_s:.2f} s of {USER_TIMEOUT_MS / 1000:g} s")
            assert took_s > 0.5 * USER_TIMEOUT_MS / 1000, "not by the pulled cable itself"
            await edge.quiet(within_s=SOON_S)
            assert edge.metric("headrace_disconnects_total") == 1
            # What is lost before headers are out has no outlet that could say how.
            assert edge.metric("headrace_disconnects_total", cause="silent" if engine is flows else "client") == 1


async def test_an_idle_connection_whose_network_is_gone_does_not_outlive_the_probes(cable):
    with cable.inside("s"):
        settings = {"host": SERVER, "user_timeout_ms": USER_TIMEOUT_MS, "keep_alive_ms": 600_000}
        async with running_edge(silent, keys=KEYS, **settings) as edge, client_of(cable, edge.url) as client:
            asked = post(path="/v1/models", method="GET", headers=AUTHORIZED)
            assert (await client.ask(asked)).status == 200
            cable.pull()
            await until(
                lambda: not edge.connections, "the connection is closed", within_s=2 * USER_TIMEOUT_MS / 1000 + 2
            )
