"""Resume through another instance of the edge: over a Unix socket within a node, over mutual TLS between nodes."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trustme

from edge.server.peering import PeerTls, peer_socket, peer_tls
from streamkit.ops.settings import SettingsError
from streamkit.wire.ids import Instance
from streamkit.wire.keys import STREAM_IDS, KeyRecord, KeySnapshot, Tenant, digest, new_key
from streamkit.wire.state import EdgeReport, Header
from tests.integration.test_resume import ANSWER, Steps, ask, begun, come_back, fetch, nothing_left, numbered
from tests.support.inprocess import DONE, RunningEdge, chunk, finish, running_edge, until
from tests.support.raw import Raw, Response
from tests.support.rig import ms

pytestmark = pytest.mark.anyio

SHARED = KeySnapshot(secrets={STREAM_IDS: "ab" * 32})


class Authority:
    """Certificates of edges."""

    def __init__(self, folder: Path) -> None:
        self.ca = trustme.CA()
        self.folder = folder

    def settings(self, name: str, authority: trustme.CA | None = None, **more: Any) -> dict[str, Any]:
        """Return the settings of a node with a certificate of its own."""
        cert, files = (authority or self.ca).issue_cert("localhost"), {}
        (self.folder / name).mkdir(mode=0o700)
        for what, blob in (
            ("cert", cert.cert_chain_pems[0]),
            ("key", cert.private_key_pem),
            ("ca", self.ca.cert_pem),
        ):
            path = self.folder / name / f"{what}.pem"
            blob.write_to_path(str(path))
            files[f"peer_{what}_file"] = str(path)
        return {
            "node": name,
            "peer_host": "127.0.0.1",
            "peer_port": 0,
            "peer_name": "localhost",
            "peer_dir": str(self.folder / name),
            **files,
            **more,
        }


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


def report_of(edge: RunningEdge) -> EdgeReport:
    """Return what an edge told control of itself last."""
    told = [exchange.json["edge"] for exchange in edge.control.exchanges if exchange.path == "/v1/sync"]
    return msgspec.convert(told[-1], EdgeReport)


async def introduce(edge: RunningEdge, *others: RunningEdge, **changes: Any) -> None:
    """Let control tell `edge` of others."""
    reports = tuple(msgspec.structs.replace(report_of(other), **changes) for other in others)
    edge.control.publish(msgspec.structs.replace(edge.control.snapshot, edges=reports))
    instances = [Instance.parse(report.header.instance) for report in reports]
    await until(lambda: all(edge.parts.peers.knows(instance) for instance in instances), "the peers are known")


@contextlib.asynccontextmanager
async def pair(
    engine: Any, link: str, authority: Authority, keys: KeySnapshot = SHARED, **settings: Any
) -> AsyncIterator[tuple[RunningEdge, RunningEdge]]:
    """Run the owner of streams and another instance that knows it."""
    one, two = ({"node": "n", "peer_dir": str(authority.folder / "sock")} for _ in "12")
    if link == "tls":
        one, two = authority.settings("one"), authority.settings("two")
    async with (
        running_edge(engine, keys=keys, **one, **settings) as owner,
        running_edge(keys=keys, **two, **settings) as other,
    ):
        await introduce(other, owner)
        yield owner, other


links = pytest.mark.parametrize("link", ["unix", "tls"])


@links
async def test_parts_join_to_the_whole_through_another_instance(link, authority):
    engine = Steps(*ANSWER)
    async with pair(engine, link, authority) as (owner, other):
        if link == "tls":
            assert report_of(owner).peer_url.startswith("https://localhost:")
        async with begun(owner) as (client, head, stream_id):
            engine.go(2)
            while head.body.count(b"data:") < 2:
                await client.chunk(head)
        async with Raw.to(other.url) as client:
            await client.send(come_back(stream_id, 2, **{"X-Request-Id": "again"}))
            second = await client.head()
            assert (second.status, second.headers["x-headrace-stream"]) == (200, stream_id)
            assert second.headers["x-request-id"] == "again"
            engine.go()
            assert await client.chunk(second) == numbered(chunk("c"), first=3), "live, not only a replay"
            engine.go(2)
            await client.body(second)
        assert head.body + second.body == numbered(*ANSWER)
        assert other.metric("headrace_peer_requests_total", link="unix" if link == "unix" else "https") == 1
        # Once more, over the connection that was kept.
        assert (await fetch(other, come_back(stream_id, 4))).body == numbered(DONE, first=5)
        assert (await fetch(other, come_back(stream_id, 5))).status == 204
        assert (await fetch(other, come_back(stream_id, method="DELETE"))).status == 204
        assert (await fetch(other, come_back(stream_id, 0))).status == 410
        await nothing_left(owner)


@links
async def test_a_drop_of_the_second_reader_is_a_drop(link, authority):
    engine = Steps(*ANSWER)
    async with pair(engine, link, authority) as (owner, other):
        async with begun(owner) as (client, head, stream_id):
            engine.go()
            await client.chunk(head)
        async with Raw.to(other.url) as client:
            await client.send(come_back(stream_id, 1))
            second = await client.head()
            engine.go()
            await client.chunk(second)
            assert owner.metric("headrace_streams_detached") == 0
        await until(lambda: owner.metric("headrace_streams_detached") == 1, "the owner has heard of it")
        engine.go(3)
        third = await fetch(other, come_back(stream_id, 2))
        assert head.body + second.body + third.body == numbered(*ANSWER)


async def test_takeover_and_stop_through_another_instance(authority):
    engine = Steps(*ANSWER)
    async with pair(engine, "unix", authority) as (owner, other), begun(owner) as (old, head, stream_id):
        engine.go()
        await old.chunk(head)
        async with Raw.to(other.url) as new:
            await new.send(come_back(stream_id, 1))
            second = await new.head()
            await old.body(head)
            assert b'"code":"taken_over"' in head.body
            assert (await fetch(other, come_back(stream_id, method="DELETE"))).status == 204
            await asyncio.wait_for(owner.engine.last.closed.wait(), 1)
            await new.body(second)
        assert b'"code":"stopped"' in second.body
        assert second.body.endswith(DONE)
        await nothing_left(owner)


async def test_heartbeats_pass_at_once(authority):
    engine = Steps(*ANSWER)
    beats = {"commit_after_ms": ms(40), "heartbeat_ms": ms(40)}
    async with pair(engine, "unix", authority, **beats) as (owner, other):
        async with begun(owner) as (client, head, stream_id):
            await client.chunk(head)
        async with Raw.to(other.url) as client:
            await client.send(come_back(stream_id, 0))
            second = await client.head()
            assert await client.chunk(second) == b": ping\n"
            engine.go(5)
            await client.body(second)
        assert second.body.replace(b": ping\n", b"") == numbered(*ANSWER)


async def test_a_slow_reader_holds_up_the_owner_and_nothing_is_lost(authority):
    events = [chunk(f"{number} " + "x" * 1000) for number in range(2_000)]

    async def script(exchange: Any) -> None:
        await exchange.stream(*events, finish(), DONE)

    limits = {"write_high_bytes": 4096, "notsent_bytes": 1024, "ring_bytes": 128 * 1024}
    async with pair(script, "unix", authority, **limits) as (owner, other):
        async with begun(owner) as (_, _, stream_id):
            pass
        async with Raw.to(other.url, rcvbuf_bytes=4096) as client:
            await client.send(come_back(stream_id, 0))
            second = await client.head()
            await until(lambda: owner.metric("headrace_pauses_total") >= 1, "the engine is paused")
            assert owner.engine.last.sent_bytes < 1_900_000
            await client.body(second)
        assert second.body == numbered(*events, finish(), DONE)


@links
async def test_an_owner_that_dies_in_the_middle_is_told(link, authority):
    engine = Steps(*ANSWER)
    async with contextlib.AsyncExitStack() as stack:
        owner, other = await stack.enter_async_context(pair(engine, link, authority))
        async with begun(owner) as (client, head, stream_id):
            engine.go()
            await client.chunk(head)
        client = await stack.enter_async_context(Raw.to(other.url))
        await client.send(come_back(stream_id, 1))
        second = await client.head()
        engine.go()
        await client.chunk(second)
        await until(lambda: any(pool.active for pool in other.parts.peers._pools.values()), "asked")
        for pool in other.parts.peers._pools.values():
            for connection in list(pool._open):
                connection.abort()
        await client.body(second)
        assert second.body.startswith(numbered(chunk("b"), first=2) + b'data: {"error":')
        assert b'"code":"stream_broken"' in second.body
        assert second.body.endswith(DONE)
        engine.go(3)
        third = await fetch(other, come_back(stream_id, 2))
        assert third.body == numbered(*ANSWER[2:], first=3)


HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"


def chunked(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


@pytest.mark.parametrize(
    ("said", "status", "code", "passed"),
    [
        (b"", 502, "stream_broken", b""),
        (b"rubbish\r\n\r\n", 502, "stream_broken", b""),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nabc", 502, "backend_error", b""),
        (b"HTTP/1.1 500 Oh\r\ncontent-length: 2\r\n\r\n{}", 502, "backend_error", b""),
        (b"HTTP/1.1 404 No\r\ncontent-length: 22\r\n\r\n" + b'{"error":{"code":"xx"}', 502, "backend_error", b""),
        (HEAD + chunked(numbered(chunk("a")) + b"id: 2\ndata: \xe2\x98"), 200, "stream_broken", numbered(chunk("a"))),
        (HEAD + chunked(b"id: 1\ndata: " + b"x" * 70_000), 200, "event_too_large", b""),
        (HEAD + chunked(numbered(chunk("a"))) + b"zz\r\n", 200, "stream_broken", b""),
    ],
    ids=["close", "no-http", "no-stream", "no-envelope", "no-code", "half-an-event", "too-large", "bad-chunk"],
)
async def test_an_owner_that_talks_rubbish(authority, said, status, code, passed):
    async def owner(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(said)
        with contextlib.suppress(ConnectionError):
            await writer.drain()
        writer.close()

    path = str(authority.folder / "rubbish.sock")
    server = await asyncio.start_unix_server(owner, path)
    async with server, running_edge(keys=SHARED, node="n", max_event_bytes=65_536) as other:
        was = other.parts.shelf.ids.instance
        report = EdgeReport(header=Header(instance="n.1.1", sequence=1), peer_socket=path)
        other.control.publish(msgspec.structs.replace(other.control.snapshot, edges=(report,)))
        await until(lambda: other.parts.peers.knows(Instance("n", 1, "1")), "the peer is known")
        other.parts.shelf.ids.instance = Instance("n", 1, "1")
        stream_id = other.parts.shelf.ids.new()
        other.parts.shelf.ids.instance = was
        answer = await fetch(other, come_back(stream_id, 0))
        assert answer.status == status
        if status != 200:
            assert answer.error["code"] == code
        else:
            assert answer.body.startswith(passed + b'data: {"error":')
            assert f'"code":"{code}"'.encode() in answer.body
            assert answer.body.endswith(DONE)
        await until(lambda: not any(pool.active for pool in other.parts.peers._pools.values()), "nothing is held")


async def test_an_owner_that_says_nothing(authority):
    async def owner(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    path = str(authority.folder / "silent.sock")
    server = await asyncio.start_unix_server(owner, path)
    silence = {"heartbeat_ms": ms(50), "connect_ms": ms(100)}
    async with server, running_edge(keys=SHARED, node="n", **silence) as other:
        report = EdgeReport(header=Header(instance="n.1.1", sequence=1), peer_socket=path)
        other.control.publish(msgspec.structs.replace(other.control.snapshot, edges=(report,)))
        await until(lambda: other.parts.peers.knows(Instance("n", 1, "1")), "the peer is known")
        was, other.parts.shelf.ids.instance = other.parts.shelf.ids.instance, Instance("n", 1, "1")
        stream_id = other.parts.shelf.ids.new()
        other.parts.shelf.ids.instance = was
        answer = await fetch(other, come_back(stream_id, 0))
        assert (answer.status, answer.error["code"]) == (504, "stream_stalled")


async def test_who_is_gone_unreachable_or_unknown(authority):
    engine = Steps(*ANSWER)
    async with pair(engine, "unix", authority) as (owner, other):
        async with begun(owner) as (client, head, stream_id):
            engine.go(5)
            await client.body(head)

        async def asked() -> Response:
            return await fetch(other, come_back(stream_id, 0))

        assert (await asked()).body == numbered(*ANSWER)
        await introduce(other, owner, peer_socket=str(authority.folder / "sock" / "nobody.sock"))
        answer = await asked()
        assert (answer.status, answer.error["code"], answer.headers["x-should-retry"]) == (
            502,
            "backend_error",
            "true",
        )
        await introduce(other, owner, peer_socket="")
        answer = await asked()
        assert (answer.status, answer.error["code"]) == (503, "no_route")
        await introduce(other)
        await until(lambda: not other.parts.peers.knows(owner.parts.shelf.ids.instance), "forgotten")
        answer = await asked()
        assert (answer.status, answer.error["code"]) == (410, "gone")
        # Without news from control nobody can say so.
        other.control.script = _fails
        other.control.publish(other.control.snapshot)
        await until(lambda: other.parts.state.away, "control is away")
        answer = await asked()
        assert (answer.status, answer.error["code"]) == (503, "no_route")


async def _fails(exchange: Any) -> None:
    await exchange.answer({}, 500)


async def test_the_owner_judges_whose_stream_it_is(authority):
    mine, stranger = new_key(), new_key()
    keys = KeySnapshot(
        version=1,
        required=True,
        keys=(
            KeyRecord(id="k1", sha256=digest(mine), tenant="Ünïted & co"),
            KeyRecord(id="k2", sha256=digest(stranger), tenant="Ünïted & co"),
        ),
        tenants=(Tenant(name="Ünïted & co"),),
        secrets=SHARED.secrets,
    )

    def by(key: str) -> dict[str, str]:
        return {"authorization": f"Bearer {key}"}

    engine = Steps(*ANSWER)
    async with pair(engine, "unix", authority, keys) as (owner, other):
        async with begun(owner, ask(30, **by(mine))) as (client, head, stream_id):
            engine.go()
            await client.chunk(head)
            for method in ("GET", "DELETE"):
                answer = await fetch(other, come_back(stream_id, 0, method=method, **by(stranger)))
                assert (answer.status, answer.error["code"]) == (404, "not_found")
            engine.go(4)
            await client.body(head)
        assert head.body == numbered(*ANSWER), "its reader was not disturbed"
        assert (await fetch(other, come_back(stream_id, 9, **by(mine)))).status == 400
        # A client cannot say who it is by the headers that peers use.
        forged = {"X-Headrace-Tenant": "%C3%9Cn%C3%AFted%20%26%20co", "X-Headrace-Key": "k1", **by(stranger)}
        assert (await fetch(owner, come_back(stream_id, 0, **forged))).status == 404
        assert (await fetch(other, come_back(stream_id, 4, **by(mine)))).body == numbered(DONE, first=5)


async def test_peers_find_streams_and_nothing_else(authority):
    async with pair(Steps(), "unix", authority) as (owner, _):
        path = report_of(owner).peer_socket
        for line, status in (
            (b"GET /v1/models", 404),
            (b"POST /v1/chat/completions", 404),
            (b"PUT /v1/streams/x", 405),
            (b"GET /v1/streams/x", 404),
            (b"GET /v1/streams/" + owner.parts.shelf.ids.new().encode(), 410),
        ):
            reader, writer = await asyncio.open_unix_connection(path)
            writer.write(line + b" HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n")
            assert (await reader.readline()).split()[1] == b"%d" % status
            writer.close()


async def test_only_certificates_of_the_peers_authority_are_taken(authority):
    stranger = trustme.CA()
    engine = Steps(*ANSWER)
    one, two = authority.settings("one"), authority.settings("two", stranger)
    async with (
        running_edge(engine, keys=SHARED, **one) as owner,
        running_edge(keys=SHARED, **two) as other,
    ):
        await introduce(other, owner)
        async with begun(owner) as (client, head, stream_id):
            engine.go(5)
            await client.body(head)
        answer = await fetch(other, come_back(stream_id, 0))
        assert answer.status == 502
        # And without any.
        context = ssl.create_default_context(cafile=one["peer_ca_file"])
        port = int(report_of(owner).peer_url.rpartition(":")[2])
        with pytest.raises((ssl.SSLError, ConnectionError, asyncio.IncompleteReadError)):
            await _first_byte(port, context)


# Drain


async def test_a_drain_waits_for_a_reader_that_comes_back_by_another_instance(authority):
    engine = Steps(*ANSWER)
    async with pair(engine, "unix", authority, drain_ms=ms(20_000)) as (owner, other):
        async with begun(owner) as (client, head, stream_id):
            engine.go(2)
            while head.body.count(b"data:") < 2:
                await client.chunk(head)
        await until(lambda: owner.metric("headrace_streams_detached") == 1, "detached")
        owner.edge.lifecycle.interrupt()
        await until(lambda: owner.edge.lifecycle.state == "draining", "the drain has begun")
        engine.go(3)
        await owner.quiet()
        assert owner.edge.lifecycle.state == "draining", "its end was not fetched yet"
        rest = await fetch(other, come_back(stream_id, 2))
        assert head.body + rest.body == numbered(*ANSWER)
        await until(lambda: owner.edge.lifecycle.state == "stopped", "and then it ends")


async def test_a_drain_ends_what_nobody_reads_in_time_to_say_so(authority):
    engine = Steps(*ANSWER)
    async with pair(engine, "unix", authority, drain_ms=ms(1_500)) as (owner, other):
        async with begun(owner) as (client, head, stream_id):
            engine.go()
            await client.chunk(head)
        await until(lambda: owner.metric("headrace_streams_detached") == 1, "detached")
        owner.edge.lifecycle.interrupt()
        await until(lambda: owner.metric("headrace_streams_total", code="draining") == 1, "it was cut")
        rest = await fetch(other, come_back(stream_id, 1))
        assert rest.body.startswith(b"id: 2\ndata: ")
        assert b'"code":"draining"' in rest.body
        assert rest.body.endswith(b"id: 3\n" + DONE)
        await until(lambda: owner.edge.lifecycle.state == "stopped", "and then it ends")


async def test_a_drain_waits_no_longer_than_the_window(authority):
    engine = Steps(*ANSWER)
    async with pair(engine, "unix", authority, drain_ms=ms(60_000)) as (owner, _):
        async with begun(owner, ask(1)) as (client, head, _):
            engine.go()
            await client.chunk(head)
        await until(lambda: owner.metric("headrace_streams_detached") == 1, "detached")
        owner.edge.lifecycle.interrupt()
        await until(lambda: owner.edge.lifecycle.state == "stopped", "the window is over, and so is the drain")


async def test_a_restarted_control_hands_out_another_key_and_old_ids_stay_good(authority):
    engine = Steps(*ANSWER)
    async with pair(engine, "unix", authority) as (owner, other):
        async with begun(owner) as (client, head, stream_id):
            engine.go(5)
            await client.body(head)
        for edge in (owner, other):
            edges = (report_of(owner),)
            keys = KeySnapshot(version=2, secrets={STREAM_IDS: "cd" * 32})
            snapshot = msgspec.structs.replace(edge.control.snapshot, keys=keys, edges=edges)
            edge.control.publish(snapshot)
            await until(lambda: edge.parts.shelf.ids._keys[0] == b"\xcd" * 32, "the new key")  # noqa: B023
        assert (await fetch(other, come_back(stream_id, 4))).body == numbered(DONE, first=5)


async def _first_byte(port: int, context: ssl.SSLContext) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname="localhost")
    try:
        writer.write(b"GET /v1/streams/x HTTP/1.1\r\nhost: x\r\n\r\n")
        await reader.readexactly(1)
    finally:
        writer.close()


def test_files_that_cannot_be_used_are_named(tmp_path):
    with pytest.raises(SettingsError, match="peer_ca_file"):
        peer_tls(PeerTls(cert_file="/no/cert", key_file="/no/key", ca_file=str(tmp_path / "none")))


def test_a_socket_lies_where_nobody_else_comes(tmp_path):
    instance = Instance("n", 0, "1")
    ours = tmp_path / "ours"
    assert peer_socket(str(ours), instance) == str(ours / "n.0.1.sock")
    assert ours.stat().st_mode & 0o777 == 0o700
    dead, young = ours / "dead.sock", ours / "young.sock"
    for path in (dead, young):
        with contextlib.closing(socket.socket(socket.AF_UNIX)) as sock:
            sock.bind(str(path))
    os.utime(dead, (0, 0))
    peer_socket(str(ours), instance)
    assert (dead.exists(), young.exists()) == (False, True)
    ours.chmod(0o755)
    with pytest.raises(SettingsError, match="0700"):
        peer_socket(str(ours), instance)
    with pytest.raises(SettingsError, match="longer than"):
        peer_socket(str(tmp_path / ("x" * 100)), instance)
    (tmp_path / "link").symlink_to(tmp_path)
    with pytest.raises(SettingsError, match="0700"):
        peer_socket(str(tmp_path / "link"), instance)
