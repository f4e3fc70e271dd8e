"""TLS at the edge: the writer's promises hold, certificates change while it serves, and bad files are told."""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import socket
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Any
from urllib.parse import urlsplit

import pytest
import trustme

from streamkit.ops.settings import SettingsError
from streamkit.ops.tls import ServerTls, TlsFiles
from tests.support.inprocess import DONE, RunningEdge, ScriptedExchange, chunk, finish, running_edge, until
from tests.support.raw import Raw, post
from tests.support.timing import FACTOR

pytestmark = pytest.mark.anyio
STREAM = {"model": "m", "stream": True}
DEADLINE_S = 10 * FACTOR
BIG = chunk("x" * 8_000)


@dataclass
class Site:
    """An authority, and the files that the edge reads."""

    ca: trustme.CA
    folder: Path

    @property
    def files(self) -> dict[str, str]:
        return {"tls_cert": str(self.folder / "cert.pem"), "tls_key": str(self.folder / "key.pem")}

    def issue(self, name: str = "localhost", folder: Path | None = None) -> None:
        made, where = self.ca.issue_cert(name), folder or self.folder
        where.mkdir(exist_ok=True)
        made.private_key_pem.write_to_path(where / "key.pem")
        for at, pem in enumerate(made.cert_chain_pems):
            pem.write_to_path(where / "cert.pem", append=at > 0)

    def trusting(self) -> ssl.SSLContext:
        context = ssl.create_default_context()
        context.check_hostname = False
        self.ca.configure_trust(context)
        return context


@pytest.fixture
def site(tmp_path: Path) -> Site:
    made = Site(trustme.CA(), tmp_path)
    made.issue()
    return made


class Client:
    """A TLS connection, read as slowly as a test wants."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @property
    def certificate(self) -> bytes:
        found: bytes = self.writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        return found

    async def head(self) -> tuple[int, dict[str, str]]:
        async with asyncio.timeout(DEADLINE_S):
            text = (await self.reader.readuntil(b"\r\n\r\n")).decode()
        status, *lines = text.split("\r\n")[:-2]
        return int(status.split()[1]), dict(line.lower().split(": ", 1) for line in lines)

    async def body(self, *, pause_s: float = 0, size: int = 65_536) -> bytes:
        """Read chunks to their end, at most `size` bytes each `pause_s`."""
        found = bytearray()
        async with asyncio.timeout(6 * DEADLINE_S):
            while not found.endswith(b"\r\n0\r\n\r\n"):
                piece = await self.reader.read(size)
                assert piece, f"ended early, after {len(found)} bytes"
                found += piece
                if pause_s:
                    await asyncio.sleep(pause_s)
        return bytes(found)

    async def ended(self) -> None:
        async with asyncio.timeout(DEADLINE_S):
            with contextlib.suppress(ConnectionError, ssl.SSLError):
                while await self.reader.read(65_536):
                    pass


@contextlib.asynccontextmanager
async def connected(url: str, context: ssl.SSLContext, *, rcvbuf_bytes: int | None = None) -> AsyncIterator[Client]:
    parts = urlsplit(url)
    assert parts.scheme == "https"
    sock = socket.socket()
    if rcvbuf_bytes is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, rcvbuf_bytes)
    sock.setblocking(False)
    await asyncio.get_running_loop().sock_connect(sock, (str(parts.hostname), int(parts.port or 443)))
    async with asyncio.timeout(DEADLINE_S):
        reader, writer = await asyncio.open_connection(
            sock=sock, ssl=context, server_hostname="localhost", limit=4_096
        )
    if rcvbuf_bytes is not None:
        # Else asyncio takes a quarter of a megabyte in gulps, and the test's own client is the one that is stuck.
        writer.transport.set_read_buffer_limits(high=rcvbuf_bytes)  # type: ignore[attr-defined]
    try:
        yield Client(reader, writer)
    finally:
        writer.transport.abort()
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            await writer.wait_closed()


async def short(exchange: ScriptedExchange) -> None:
    await exchange.stream(chunk("one"), chunk("two"), finish(), DONE)


class Endless:
    """An engine that sends big events until it is stopped, or `count` of them."""

    def __init__(self, count: int = 1_000) -> None:
        self.count = count

    async def __call__(self, exchange: ScriptedExchange) -> None:
        await exchange.head()
        for _ in range(self.count):
            await exchange.send(BIG)
        await exchange.send(finish())
        await exchange.send(DONE)
        await exchange.end()


async def settled(edge: RunningEdge) -> int:
    """Wait until the engine gets rid of nothing more, and return what it got rid of."""
    exchange = await edge.engine.asked()
    sent, quiet = -1, 0
    while quiet < 20:
        quiet = quiet + 1 if exchange.sent_bytes == sent else 0
        sent = exchange.sent_bytes
        await asyncio.sleep(0.01 * FACTOR)
    return sent


async def test_streams_and_kept_connections(site: Site) -> None:
    async with running_edge(short, **site.files) as edge:
        assert edge.url.startswith("https://")
        async with connected(edge.url, site.trusting()) as client:
            for _ in range(3):
                client.writer.write(post(STREAM))
                assert (await client.head())[0] == 200
                body = await client.body()
                assert body.count(b"data: ") == 4
                assert DONE in body
            client.writer.write(post(path="/v1/models", method="GET"))
            status, headers = await client.head()
            listed = json.loads(await client.reader.readexactly(int(headers["content-length"])))
            assert (status, listed["data"][0]["id"]) == (200, "m")
        await edge.quiet()
        await until(lambda: not edge.connections)


async def test_a_slow_reader_pauses_its_engine_and_loses_nothing(site: Site) -> None:
    async with running_edge(Endless(600), **site.files) as edge:
        async with connected(edge.url, site.trusting(), rcvbuf_bytes=4_096) as client:
            client.writer.write(post(STREAM))
            await client.head()
            sent = await settled(edge)
            assert sent < 600 * len(BIG) * 0.7, "the engine was paused"
            body = await client.body()
            assert body.count(BIG) == 600
            assert DONE in body
        await edge.quiet()


async def test_a_frozen_reader_is_cut_and_its_engine_closed(site: Site) -> None:
    async with (
        running_edge(Endless(), slow_reader_ms=int(300 * FACTOR), **site.files) as edge,
        connected(edge.url, site.trusting(), rcvbuf_bytes=4_096) as client,
    ):
        client.writer.write(post(STREAM))
        await client.head()
        await settled(edge)
        await until(edge.engine.last.closed.is_set, "the engine is closed", within_s=DEADLINE_S)
        await edge.quiet()
        await until(lambda: not edge.connections, "the client's connection is cut")


@pytest.mark.slow
async def test_a_reader_that_is_slow_and_not_stuck_is_not_cut(site: Site) -> None:
    limit_ms = int(500 * FACTOR)
    async with running_edge(Endless(40), slow_reader_ms=limit_ms, **site.files) as edge:
        async with connected(edge.url, site.trusting(), rcvbuf_bytes=4_096) as client:
            client.writer.write(post(STREAM))
            await client.head()
            await settled(edge)
            began = monotonic()
            body = await client.body(pause_s=limit_ms / 1000 / 16, size=2_048)
            assert monotonic() - began > 2 * limit_ms / 1000, "it was paused for several limits"
            assert body.count(BIG) == 40
        await edge.quiet()


async def test_a_client_that_leaves_stops_its_engine(site: Site) -> None:
    async def held(exchange: ScriptedExchange) -> None:
        await exchange.head()
        await exchange.send(chunk("one"))
        await exchange.closed.wait()

    async with running_edge(held, **site.files) as edge:
        for at, way in enumerate(("close", "abort"), start=1):
            async with connected(edge.url, site.trusting()) as client:
                client.writer.write(post(STREAM))
                await client.head()
                await client.reader.readuntil(b"one")
                exchange = await edge.engine.asked(at)
                getattr(client.writer.transport, way)()
                async with asyncio.timeout(1.0 * FACTOR):
                    await exchange.closed.wait()
        await edge.quiet()
        await until(lambda: not edge.connections)


async def test_a_new_certificate_is_used_by_new_connections_and_harms_no_old_one(site: Site, tmp_path: Path) -> None:
    release = asyncio.Event()

    async def held(exchange: ScriptedExchange) -> None:
        await exchange.head()
        await exchange.send(chunk("one"))
        await release.wait()
        for event in (finish(), DONE):
            await exchange.send(event)
        await exchange.end()

    async with running_edge(held, **site.files) as edge, connected(edge.url, site.trusting()) as running:
        running.writer.write(post(STREAM))
        await running.head()
        await running.reader.readuntil(b"one")
        site.issue(folder=tmp_path / "next")
        for name in ("key.pem", "cert.pem"):
            shutil.move(tmp_path / "next" / name, site.folder / name)

        async def certificate() -> bytes:
            async with connected(edge.url, site.trusting()) as client:
                return client.certificate

        async with asyncio.timeout(DEADLINE_S):
            while (renewed := await certificate()) == running.certificate:
                pass
        # A file that cannot be used changes nothing.
        (site.folder / "cert.pem").write_text("half a file")
        assert await certificate() == renewed
        release.set()
        assert DONE in await running.body()


async def test_a_client_certificate_can_be_demanded(site: Site, tmp_path: Path) -> None:
    authority, stranger = trustme.CA(), trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "clients.pem")
    async with running_edge(short, tls_client_ca=str(tmp_path / "clients.pem"), **site.files) as edge:
        known = site.trusting()
        authority.issue_cert("phone@example.org").configure_cert(known)
        async with connected(edge.url, known) as client:
            client.writer.write(post(STREAM))
            assert (await client.head())[0] == 200
            assert DONE in await client.body()
        wrong = site.trusting()
        stranger.issue_cert("phone@example.org").configure_cert(wrong)
        for context in (site.trusting(), wrong):
            with contextlib.suppress(ConnectionError, ssl.SSLError):
                async with connected(edge.url, context) as client:
                    client.writer.write(post(STREAM))
                    await client.ended()
        assert len(edge.engine.exchanges) == 1


async def test_plain_http_and_junk_on_the_port_end_and_harm_nobody(site: Site) -> None:
    async with running_edge(short, **site.files) as edge:
        plain = edge.url.replace("https://", "http://")
        for junk in (post(STREAM), b"\x00" * 100, b"\x16\x03\x01\x00\xc8" + b"\xff" * 200):
            async with Raw.to(plain) as client:
                await client.send(junk)
                await client.gone()
        async with connected(edge.url, site.trusting()) as client:
            client.writer.write(post(STREAM))
            assert (await client.head())[0] == 200
        assert len(edge.engine.exchanges) == 1


async def test_a_drain_does_not_wait_for_idle_connections(site: Site) -> None:
    async with (
        running_edge(short, drain_ms=60_000, **site.files) as edge,
        connected(edge.url, site.trusting()) as client,
    ):
        client.writer.write(post(STREAM))
        await client.head()
        assert DONE in await client.body()
        client.writer.transport.pause_reading()  # a pool that never looks at what is idle
        edge.edge.lifecycle.begin_drain()
        await until(lambda: not edge.connections, within_s=DEADLINE_S)


FILES: dict[str, Any] = {"cert": "cert.pem", "key": "key.pem"}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"key": ""}, "tls_key: is needed where tls_cert is set"),
        ({"cert": ""}, "tls_cert: is needed where tls_key is set"),
        ({"cert": "", "key": "", "client_ca": "cert.pem"}, "tls_cert: is needed where tls_client_ca is set"),
        ({"cert": "none.pem"}, r"tls_cert: .*none\.pem: cannot be read: No such file"),
        ({"key": "other.pem"}, "does not belong to the certificate"),
        ({"cert": "text.pem"}, "no PEM pair"),
        ({"key": "text.pem"}, "no PEM pair"),
        ({"key": "locked.pem"}, "is encrypted"),
        ({"client_ca": "text.pem"}, "tls_client_ca: .*no PEM certificates"),
    ],
)
async def test_files_that_cannot_be_used_are_one_line(site: Site, change: dict[str, str], words: str) -> None:
    site.ca.issue_cert("other").private_key_pem.write_to_path(site.folder / "other.pem")
    (site.folder / "text.pem").write_text("no PEM at all")
    (site.folder / "locked.pem").write_bytes(_locked((site.folder / "key.pem").read_bytes()))
    named = {name: str(site.folder / path) if path else "" for name, path in {**FILES, **change}.items()}
    with pytest.raises(SettingsError, match=words) as caught:
        ServerTls(TlsFiles(**named))
    assert "\n" not in str(caught.value)


def _locked(key: bytes) -> bytes:
    from cryptography.hazmat.primitives import serialization

    form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    return serialization.load_pem_private_key(key, None).private_bytes(
        *form, serialization.BestAvailableEncryption(b"secret")
    )
