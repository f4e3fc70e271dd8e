"""HTTP: the conduct of a connection that clients, proxies and attackers rely on (RFC 9110, RFC 9112)."""

from __future__ import annotations

import asyncio

from loadtest.conform import sse
from loadtest.conform.case import Finding, case, deviation, failed, passed
from loadtest.conform.http import ProtocolError, request
from loadtest.conform.judge import said
from loadtest.conform.rig import Rig


@case(
    "keep-alive",
    "http",
    "After a stream the connection serves the next request.",
    "RFC 9112 §9.3",
    needs="gateway",
    severity="should",
)
async def keep_alive(rig: Rig) -> Finding:
    """Ask twice over one connection."""
    async with rig.channel() as channel:
        await channel.send(rig.request())
        first = await channel.rest(await channel.head())
        if first.headers.get("connection", "").lower() == "close" or not first.whole:
            return deviation("the connection closes after a stream")
        try:
            await channel.send(rig.request())
            second = await channel.rest(await channel.head())
        except (ConnectionError, ProtocolError) as error:
            return failed(f"not closed in words, but the next request fails: {error}")
    good = second.status == 200 and sse.DONE in sse.payloads(second.body)
    return passed("two streams, one connection") if good else failed(f"the second: {said(second)}")


@case(
    "pipelining",
    "http",
    "Requests sent ahead are answered in order, or the connection closes after the first; never mixed up.",
    "RFC 9112 §9.3.2",
    needs="gateway",
    severity="should",
)
async def pipelining(rig: Rig) -> Finding:
    """Send a stream request and a GET in one piece."""
    async with rig.channel() as channel:
        await channel.send(rig.request() + request(rig.target, method="GET", path="/v1/models"))
        first = await channel.rest(await channel.head())
        if sse.DONE not in sse.payloads(first.body):
            return failed(f"the first answer: {said(first)}")
        try:
            second = await channel.rest(await channel.head())
        except ProtocolError as error:
            return deviation(f"closed after the first answer: {error}")
    if "text/event-stream" in second.headers.get("content-type", "") or not second.body.startswith(b"{"):
        return failed(f"the second answer is not the second request's: {said(second)}")
    return passed("two answers in order")


@case(
    "http-1.0",
    "http",
    "An HTTP/1.0 client gets a stream without chunked framing, ended by the close.",
    "RFC 9112 §6.1",
    needs="gateway",
    severity="should",
)
async def http_1_0(rig: Rig) -> Finding:
    """Ask as HTTP/1.0."""
    answer = await rig.exchange(request(rig.target, rig.body(), version="1.0"))
    if "chunked" in answer.headers.get("transfer-encoding", ""):
        return failed("chunked framing for a client that cannot read it")
    if sse.DONE not in sse.payloads(answer.body):
        return failed(said(answer))
    return passed(f"{said(answer)}, ended by the close")


@case(
    "expect-100",
    "http",
    "`Expect: 100-continue` is answered before the body is sent.",
    "RFC 9110 §10.1.1",
    needs="gateway",
    severity="should",
)
async def expect_100(rig: Rig) -> Finding:
    """Hold the body back until the gateway says something."""
    body = rig.body()
    data = request(rig.target, body, headers={"Expect": "100-continue"})
    head, _, _ = data.partition(b"\r\n\r\n")
    async with rig.channel() as channel:
        await channel.send(head + b"\r\n\r\n")
        asked = True
        try:
            interim = await channel.head(rig.soon_s * 2)
        except TimeoutError:
            asked = False
        else:
            if interim.status >= 400:
                return passed(f"refused at once: {interim.status}")
            if interim.status != 100:
                return failed(f"answered {interim.status} without the body")
        await channel.send(body)
        answer = await channel.head()
        if answer.status == 100:
            answer = await channel.head()
        await channel.rest(answer)
    if answer.status != 200 or sse.DONE not in sse.payloads(answer.body):
        return failed(said(answer))
    return passed("100, then the stream") if asked else deviation("no 100: clients wait a second in vain")


@case(
    "chunked-request",
    "http",
    "A request body in chunks is read as one.",
    "RFC 9112 §7.1",
    needs="gateway",
    severity="should",
)
async def chunked_request(rig: Rig) -> Finding:
    """Send the body in chunks of seven bytes."""
    body = rig.body()
    head = request(rig.target, headers={"Content-Length": "", "Transfer-Encoding": "chunked"})
    pieces = [body[i : i + 7] for i in range(0, len(body), 7)]
    framed = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"
    answer = await rig.exchange(head + framed)
    if answer.status in (411, 501):
        return deviation(said(answer))
    good = answer.status == 200 and sse.DONE in sse.payloads(answer.body)
    return passed(f"{len(pieces)} chunks") if good else failed(said(answer))


@case(
    "slow-request",
    "http",
    "A request that arrives in small segments is read as one.",
    "RFC 9112 §2.2",
    needs="gateway",
    severity="should",
)
async def slow_request(rig: Rig) -> Finding:
    """Send a request nine bytes at a time."""
    data = rig.request()
    async with rig.channel() as channel:
        for at in range(0, len(data), 9):
            await channel.send(data[at : at + 9])
            await asyncio.sleep(0.001)
        answer = await channel.rest(await channel.head())
    good = answer.status == 200 and sse.DONE in sse.payloads(answer.body)
    return passed(f"{len(data)} bytes in {-(-len(data) // 9)} segments") if good else failed(said(answer))


@case(
    "header-flood",
    "http",
    "A megabyte of headers is refused, and the gateway serves on.",
    "RFC 6585 §5",
    needs="gateway",
)
async def header_flood(rig: Rig) -> Finding:
    """Send 1 MiB of header lines."""
    body = rig.body()
    head, _, _ = request(rig.target, body).partition(b"\r\n\r\n")
    flood = b"".join(b"\r\nx-flood-%d: %b" % (number, b"f" * 1000) for number in range(1024))
    async with rig.channel() as channel:
        try:
            await channel.send(head, flood, b"\r\n\r\n", body)
        except (ConnectionError, TimeoutError):
            told = "stopped reading"
        else:
            told = "said nothing"
        try:
            answer = await channel.head()
            told = f"status {answer.status}"
        except (ProtocolError, ConnectionError):
            told = "closed"
            answer = None
        except TimeoutError:
            return failed("neither answered nor closed")
    after = await rig.ask()
    if after.status != 200:
        return failed(f"{told}; the next request got {said(after)}")
    if answer is None:
        return deviation("closed without a status; the next request is served")
    if answer.status in (400, 413, 431, 494):
        return passed(f"{told}; the next request is served")
    return deviation(told) if answer.status < 500 and answer.status != 200 else failed(f"{told} for 1 MiB of headers")


@case(
    "two-faced-framing",
    "http",
    "Content-Length together with Transfer-Encoding opens no way for a second, smuggled request.",
    "RFC 9112 §6.3",
    needs="gateway",
)
async def two_faced_framing(rig: Rig) -> Finding:
    """Hide a GET behind the last chunk, inside the declared length."""
    body = rig.body()
    hidden = request(rig.target, method="GET", path="/v1/models")
    framed = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
    lines = {"Transfer-Encoding": "chunked", "Content-Length": str(len(framed) + len(hidden))}
    async with rig.channel() as channel:
        await channel.send(request(rig.target, headers=lines) + framed + hidden)
        try:
            first = await channel.rest(await channel.head())
        except ProtocolError:
            return passed("closed")
        try:
            second = await channel.head(rig.soon_s)
        except (ProtocolError, TimeoutError):
            second = None
    if second is not None and first.status == 200:
        return failed(f"the hidden request was served: {second.status}")
    return passed(f"status {first.status}") if first.status >= 400 else deviation(f"served ({first.status}), closed")
