"""Slow, endless, malformed and two-faced requests: each has its bound, and its refusal can be read."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import resource
import ssl
import subprocess
from pathlib import Path
from time import monotonic

import pytest

from tests.support.inprocess import DONE, MODEL, RunningEdge, ScriptedExchange, chunk, finish, running_edge
from tests.support.needs import program
from tests.support.raw import Raw, Response, post
from tests.support.timing import SOON_S

pytestmark = pytest.mark.anyio

GET = b"GET /v1/models HTTP/1.1\r\nhost: edge\r\n"
CHUNKED = post(headers={"content-length": "", "transfer-encoding": "chunked"})
STREAM = {"model": MODEL, "stream": True}


async def engine(exchange: ScriptedExchange) -> None:
    await exchange.stream(chunk("Hello"), finish(), DONE)


async def refused(edge: RunningEdge, *pieces: bytes) -> Response:
    """Return the one answer to `pieces`, after which the connection must end, and not by a reset."""
    async with Raw.to(edge.url) as client:
        answer = await client.ask(*pieces)
        assert answer.headers["connection"] == "close"
        assert answer.error["type"] == "invalid_request_error"
        assert await client.ended() == b"", pieces
        return answer


async def test_headers_that_take_too_long_are_408():
    async with running_edge(engine, header_ms=80) as edge:
        began = monotonic()
        for pieces in ((b"G",), (GET,), (GET, b"x: ")):
            answer = await refused(edge, *pieces)
            assert (answer.status, answer.error["code"]) == (408, "request_timeout")
            assert "0.08 s" in answer.error["message"]
            assert "x-request-id" not in answer.headers, "there is no request yet"
        assert monotonic() - began < 3 * SOON_S


async def test_one_header_byte_now_and_then_does_not_move_the_deadline():
    async with running_edge(engine, header_ms=80) as edge, Raw.to(edge.url) as client:
        began = monotonic()
        waiting = asyncio.create_task(client.response())
        for byte in GET * 100:
            await client.send(b"%c" % byte)
            await asyncio.wait({waiting}, timeout=0.01)
            if waiting.done():
                break
        assert (await waiting).status == 408
        assert 0.07 < monotonic() - began < SOON_S


async def test_a_connection_on_which_nothing_is_asked_is_closed_without_a_word():
    async with running_edge(engine, header_ms=60, keep_alive_ms=60) as edge:
        for said in ((), (b"\r\n", b"\r\n\r\n")):
            async with Raw.to(edge.url) as client:
                await client.send(*said)
                assert await client.ended() == b""
        async with Raw.to(edge.url) as client:
            assert (await client.ask(GET + b"\r\n")).status == 200
            await client.send(b"\r\n")  # a blank line is no request, and keeps nothing open
            assert await client.ended() == b""


async def test_a_body_that_takes_too_long_is_408_with_the_requests_id():
    async with running_edge(engine, body_ms=60) as edge:
        named = {"x-request-id": "slow-1"}
        chunked = {**named, "content-length": "", "transfer-encoding": "chunked"}
        for pieces in (
            (post(headers={**named, "content-length": "10"}),),
            (post(headers={**named, "content-length": "10"}), b'{"mod'),
            (post(headers=chunked), b"5\r\n{"),
        ):
            answer = await refused(edge, *pieces)
            assert (answer.status, answer.error["code"]) == (408, "request_timeout")
            assert "body" in answer.error["message"]
            assert answer.headers["x-request-id"] == "slow-1"
        await edge.quiet()
        assert not edge.engine.exchanges


async def test_headers_over_the_bound_are_431_however_they_are_shaped():
    async with running_edge(engine, max_header_bytes=4096) as edge:
        for pieces in (
            (GET, b"x: " + b"a" * 5000, b"\r\n\r\n"),
            (GET + b"x: 1\r\n" * 1000 + b"\r\n",),
            (GET + b"a" * 5000 + b": 1\r\n\r\n",),
            (b"GET /" + b"a" * 5000 + b" HTTP/1.1\r\n\r\n",),
            (GET, *[b"x-%d: %b\r\n" % (n, b"v" * 90) for n in range(100)]),
        ):
            answer = await refused(edge, *pieces)
            assert (answer.status, answer.error["code"]) == (431, "headers_too_large")
            assert "4096" in answer.error["message"]
        async with Raw.to(edge.url) as client:
            assert (await client.ask(GET + b"x: " + b"a" * 3900 + b"\r\n\r\n")).status == 200


@pytest.mark.parametrize("piece", [b"a" * 65536, b"x: 1\r\n" * 10000], ids=["one endless line", "many lines"])
@pytest.mark.parametrize("where", ["request line", "headers", "trailers", "chunk extension"])
async def test_twenty_megabytes_of_head_are_refused_in_bounded_memory(piece, where):
    starts = {
        "request line": b"GET /",
        "headers": GET + b"x: ",
        "trailers": CHUNKED + b"1\r\n{\r\n0\r\nx: ",
        "chunk extension": CHUNKED + b"1;",
    }
    async with running_edge(engine) as edge, Raw.to(edge.url) as client:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        await client.send(starts[where])
        taken = await client.pour(piece, 20 * 1024 * 1024)
        assert taken >= 20 * 1024 * 1024, "it is read and dropped, so that the refusal can be read"
        answer = await client.response()
        assert answer.status in (400, 431)
        assert answer.error["code"] in ("headers_too_large", "invalid_request")
        assert not await client.gone()
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
        assert grown < 4096, f"{grown} KiB"
        await edge.quiet()


MALFORMED = {
    "a binary greeting": b"\x00\x01\x02\x03\r\n\r\n",
    "a TLS handshake": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(64),
    "HTTP/2 with prior knowledge": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "another protocol": b"SSH-2.0-OpenSSH_9.6\r\n",
    "an unknown method": b"BREW /v1/models HTTP/1.1\r\n\r\n",
    "a method in lower case": b"get /v1/models HTTP/1.1\r\n\r\n",
    "an unknown version": b"GET /v1/models HTTP/3.7\r\nhost: e\r\n\r\n",
    "version 2.0": b"GET /v1/models HTTP/2.0\r\nhost: e\r\n\r\n",
    "a target with a NUL": b"GET /v1/\x00models HTTP/1.1\r\n\r\n",
    "a target with raw bytes": b"GET /v1/\xff\xfe HTTP/1.1\r\n\r\n",
    "a target without a path": b"GET http://edge HTTP/1.1\r\nhost: edge\r\n\r\n",
    "CONNECT": b"CONNECT edge:443 HTTP/1.1\r\nhost: edge\r\n\r\n",
    "a header name with a space": GET + b"x y: 1\r\n\r\n",
    "a space before the colon": GET + b"x : 1\r\n\r\n",
    "a header without a colon": GET + b"nonsense\r\n\r\n",
    "a header value with a NUL": GET + b"x: a\x00b\r\n\r\n",
    "a header value with a bare CR": GET + b"x: a\rb: c\r\n\r\n",
    "a folded header": GET + b"x: a\r\n b\r\n\r\n",
    "a negative length": post(headers={"content-length": "-1"}),
    "a signed length": post(headers={"content-length": "+1"}),
    "a length in hex": post(headers={"content-length": "0x10"}),
    "a length of many digits": post(headers={"content-length": "9" * 40}),
    "two lengths": post(b"{}", headers={"Content-length": "2"}).replace(b"host: edge", b"content-length: 3"),
    "two equal lengths in one": post(b"{}", headers={"content-length": "2, 2"}),
    "length and chunks": post(headers={"content-length": "3", "transfer-encoding": "chunked"}) + b"0\r\n\r\n",
    "chunks and length": b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\ncontent-length: 5\r\n\r\n0\r\n\r\n",
    "an unknown coding": post(headers={"content-length": "", "transfer-encoding": "xchunked"}) + b"0\r\n\r\n",
    "a coding after chunked": post(headers={"content-length": "", "transfer-encoding": "chunked, gzip"}),
    "chunked twice": post(headers={"content-length": "", "transfer-encoding": "chunked, chunked"}) + b"0\r\n\r\n",
    "a chunk size that is none": CHUNKED + b"g\r\n",
    "a signed chunk size": CHUNKED + b"-1\r\n",
    "a chunk longer than it says": post(headers={"content-length": "", "transfer-encoding": "chunked"})
    + b"1\r\nab\r\n",
    "a chunk size over 64 bits": post(headers={"content-length": "", "transfer-encoding": "chunked"})
    + b"f" * 17
    + b"\r\n",
    "a chunk size ended by a bare LF": post(headers={"content-length": "", "transfer-encoding": "chunked"})
    + b"1\na\r\n",
    "lines ended by a bare LF": b"GET /v1/models HTTP/1.1\nhost: edge\n\n",
    "a header ended by a bare LF": GET + b"x: 1\ntransfer-encoding: chunked\r\n\r\n",
}


async def test_malformed_requests_are_400_in_an_envelope():
    async with running_edge(engine) as edge:
        for name, request in MALFORMED.items():
            try:
                answer = await refused(edge, request)
            except (AssertionError, TimeoutError, KeyError) as exc:
                raise AssertionError(f"{name}: {exc!r}") from exc
            assert (answer.status, answer.error["code"]) == (400, "invalid_request"), name
        answer = await refused(edge, MALFORMED["a TLS handshake"])
        assert "TLS" in answer.error["message"]
        assert not edge.engine.exchanges
        await edge.quiet()


async def test_one_body_is_never_read_as_another_request():
    inner = post(path="/v1/models", method="GET")
    async with running_edge(engine) as edge:
        # HTTP/1.0 has no chunks: whatever a proxy made of it, nothing behind it is served.
        async with Raw.to(edge.url) as client:
            smuggled = post(headers={"content-length": "", "transfer-encoding": "chunked"}, version="1.0")
            await client.send(smuggled + b"0\r\n\r\n" + inner)
            answer = await client.response()
            assert answer.status == 400
            assert await client.ended() == b""
        # More bytes than the length says are the next request, and no valid one.
        async with Raw.to(edge.url) as client:
            await client.send(post(b'{"model": "m"}', headers={"content-length": "13"}))
            assert (await client.response()).error["code"] == "invalid_request"
            assert (await client.response()).headers["connection"] == "close"
            assert not await client.gone()
        # Fewer, and the client's end: nobody is there to be answered.
        async with Raw.to(edge.url) as client:
            await client.send(post(b'{"model": "m"}', headers={"content-length": "99"}))
            client.half_close()
            await client.gone()
        await edge.quiet()
        assert not edge.engine.exchanges


async def test_an_unread_refusal_does_not_hold_the_connection_for_ever():
    async with running_edge(engine) as edge, Raw.to(edge.url) as client:
        await client.send(b"\x00\r\n\r\n")
        assert (await client.response()).status == 400
        client.half_close()
        assert await client.ended() == b""
        await edge.quiet()


async def test_a_failure_of_the_application_is_500_in_an_envelope_and_nothing_is_kept():
    async with running_edge(engine) as edge:
        edge.parts.routes.cached = None  # what no request can bring about
        async with Raw.to(edge.url) as client:
            answer = await client.ask(post(STREAM, headers={"x-request-id": "bad-day"}))
            assert (answer.status, answer.error["code"]) == (500, "internal")
            assert (answer.headers["x-request-id"], answer.headers["connection"]) == ("bad-day", "close")
            assert not await client.gone()
        await edge.quiet()


async def test_the_same_over_tls(tmp_path):
    certificate, key = _certificate(tmp_path)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(certificate, key)
    trusted = ssl.create_default_context(cafile=certificate)

    def with_tls(edge):
        return dataclasses.replace(edge, public=dataclasses.replace(edge.public, tls=server))

    async def waits(exchange: ScriptedExchange) -> None:
        await exchange.head()
        await exchange.send(chunk("Hello"))
        if "wait" in exchange.json:
            await exchange.closed.wait()
            return
        for event in (finish(), DONE):
            await exchange.send(event)
        await exchange.end()

    async with running_edge(waits, wrap=with_tls, body_ms=60) as edge:
        port = int(edge.url.rsplit(":", 1)[1])
        assert edge.url.startswith("https://")

        async def connected():
            return await asyncio.open_connection("127.0.0.1", port, ssl=trusted, server_hostname="localhost")

        reader, writer = await connected()
        for _ in range(2):
            writer.write(post(STREAM))
            assert DONE in await reader.readuntil(b"\r\n0\r\n\r\n")
        writer.write(post(headers={"content-length": "10"}))
        assert b" 408 " in await reader.readuntil(b"\r\n\r\n")
        writer.close()
        await _closed(writer)

        reader, writer = await connected()
        writer.write(post({**STREAM, "wait": True}))
        await reader.readuntil(b"Hello")
        writer.transport.abort()
        async with asyncio.timeout(SOON_S):
            await edge.engine.last.closed.wait()
        await _closed(writer)
        await edge.quiet()


async def _closed(writer):
    with contextlib.suppress(OSError):
        await writer.wait_closed()


def _certificate(folder: Path) -> tuple[str, str]:
    """Return paths of a certificate for localhost and its key, made for this test."""
    certificate, key = str(folder / "cert.pem"), str(folder / "key.pem")
    command = [
        program("openssl"),
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
        "-nodes",
    ]
    command += ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost", "-days", "1"]
    subprocess.run([*command, "-keyout", key, "-out", certificate], check=True, capture_output=True)
    return certificate, key
