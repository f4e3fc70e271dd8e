"""A browser's WebSocket over TLS, admitted by a client token of its page."""

from __future__ import annotations

import asyncio
import json
import socket as sockets
import ssl
import time
from pathlib import Path
from time import monotonic

import pytest
import trustme
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from streamkit.wire.keys import CLIENT_TOKENS, KeyRecord, KeySnapshot, digest
from streamkit.wire.tokens import Claims, signed
from tests.support.inprocess import DONE, MODEL, ScriptedExchange, chunk, finish, running_edge, until
from tests.support.timing import FACTOR
from tests.support.websocket import frame, handshake

pytestmark = pytest.mark.anyio
PAGE = "https://app.example"
SECRET = bytes(range(32))
KEYS = KeySnapshot(
    version=1,
    required=True,
    keys=(KeyRecord(id="k1", sha256=digest("hr-key"), tenant="acme"),),
    secrets={CLIENT_TOKENS: SECRET.hex()},
)


async def engine(exchange: ScriptedExchange) -> None:
    await exchange.stream(chunk("one"), chunk("two"), finish(), DONE)


def token(expires_in_s: int = 600) -> str:
    claims = Claims(key="k1", expires_at=int(time.time()) + expires_in_s, models=(MODEL,), origin=PAGE)
    return signed(claims, SECRET)


def issued(folder: Path) -> tuple[dict[str, str], ssl.SSLContext]:
    """Return the settings of a certificate for this machine, and what trusts it."""
    ca = trustme.CA()
    made = ca.issue_cert("127.0.0.1")
    made.private_key_pem.write_to_path(folder / "key.pem")
    made.cert_chain_pems[0].write_to_path(folder / "cert.pem")
    trust = ssl.create_default_context()
    ca.configure_trust(trust)
    return {"tls_cert": str(folder / "cert.pem"), "tls_key": str(folder / "key.pem")}, trust


BIG = chunk("x" * 8_000)
EVENTS = 40


async def flood(exchange: ScriptedExchange) -> None:
    await exchange.head()
    for _ in range(EVENTS):
        await exchange.send(BIG)
    await exchange.send(finish() + DONE)
    await exchange.end()


class Reader:
    """A client of a small receive buffer, whose socket is read only when it is told to."""

    def __init__(self, wire: ssl.SSLSocket) -> None:
        self._wire = wire
        wire.settimeout(30 * FACTOR)

    @classmethod
    def to(cls, url: str, trust: ssl.SSLContext) -> Reader:
        """Connect, open the socket and start one stream."""
        host, port = url.removeprefix("https://").split(":")
        raw = sockets.socket()
        raw.setsockopt(sockets.SOL_SOCKET, sockets.SO_RCVBUF, 4_096)
        raw.connect((host, int(port)))
        reader = cls(trust.wrap_socket(raw, server_hostname=host))
        request = {"model": MODEL, "stream": True, "messages": []}
        text = json.dumps({"type": "start", "id": "a", "operation": "chat", "request": request})
        reader._wire.sendall(handshake())
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += reader._wire.recv(1)
        assert b" 101 " in head, head
        reader._wire.sendall(frame(text.encode()))
        return reader

    def read(self, *, size: int = 65_536, pause_s: float = 0.0) -> bytes:
        """Read to the stream's `done`, so much each `pause_s`."""
        found = bytearray()
        while b'{"type":"done"' not in found:
            piece = self._wire.recv(size)
            assert piece, f"ended after {len(found)} bytes"
            found += piece
            time.sleep(pause_s)
        return bytes(found)

    def close(self) -> None:
        self._wire.close()


async def test_a_socket_that_takes_nothing_over_tls_is_cut(tmp_path: Path) -> None:
    files, trust = issued(tmp_path)
    async with running_edge(flood, slow_reader_ms=int(300 * FACTOR), write_high_bytes=16_384, **files) as edge:
        reader = await asyncio.to_thread(Reader.to, edge.url, trust)
        await until(lambda: edge.metric("headrace_sockets_closed_total", code="4408") == 1, within_s=10 * FACTOR)
        reader.close()
        await edge.quiet()


@pytest.mark.slow
async def test_a_socket_that_is_slow_over_tls_and_not_stuck_is_not_cut(tmp_path: Path) -> None:
    files, trust = issued(tmp_path)
    limit_s = 0.5 * FACTOR
    options = {"slow_reader_ms": int(limit_s * 1000), "write_high_bytes": 16_384}
    async with running_edge(flood, **options, **files) as edge:
        reader = await asyncio.to_thread(Reader.to, edge.url, trust)
        await until(lambda: edge.metric("headrace_pauses_total") >= 1, within_s=10 * FACTOR)
        began = monotonic()
        found = await asyncio.to_thread(reader.read, size=2_048, pause_s=limit_s / 16)
        assert monotonic() - began > 2 * limit_s, "it was paused for several limits"
        assert found.count(b"x" * 8_000) == EVENTS
        reader.close()
        await edge.quiet()


async def test_a_page_streams_with_its_token_and_within_its_scope(tmp_path: Path) -> None:
    files, trust = issued(tmp_path)
    async with running_edge(engine, keys=KEYS, cors_origins=(PAGE, "https://other.example"), **files) as edge:
        address = edge.url.replace("https://", "wss://") + "/v1/ws?token="

        async def said(model: str) -> list[dict[str, object]]:
            request = {"model": model, "stream": True, "messages": []}
            async with connect(address + token(), ssl=trust, additional_headers={"origin": PAGE}) as socket:
                await socket.send(json.dumps({"type": "start", "id": "a", "operation": "chat", "request": request}))
                found = [json.loads(await socket.recv())]
                while found[-1]["type"] not in ("done", "error"):
                    found.append(json.loads(await socket.recv()))
                return found

        async with asyncio.timeout(10 * FACTOR):
            assert [message["type"] for message in await said(MODEL)] == ["started", *["event"] * 3, "done"]
            refused = (await said("other"))[-1]
            assert (refused["type"], refused["status"]) == ("error", 403)
            assert f"scoped to models: {MODEL}" in str(refused)
            for shown, origin, status in (
                (token(), "https://other.example", 403),
                (token(-3_600), PAGE, 401),
                (token()[:-1], PAGE, 401),
                ("hr-key", PAGE, 401),  # a key has no business in an address
            ):
                with pytest.raises(InvalidStatus) as caught:
                    async with connect(address + shown, ssl=trust, additional_headers={"origin": origin}):
                        pass
                assert caught.value.response.status_code == status, (origin, status)
