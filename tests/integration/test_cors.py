"""CORS on real sockets: whoever answers, the application or the server in its place, a page can read it."""

from __future__ import annotations

import pytest

from streamkit.wire.keys import KeyRecord, KeySnapshot, digest
from tests.support.inprocess import DONE, ScriptedExchange, chunk, finish, running_edge
from tests.support.raw import Raw, post
from tests.support.raw import Response as Answer

pytestmark = pytest.mark.anyio
PAGE = "https://app.example"
KEY = "hr-" + "5a" * 32
KEYS = KeySnapshot(version=1, required=True, keys=(KeyRecord(id="k1", sha256=digest(KEY), tenant="acme"),))
CORS = {"cors_origins": (PAGE,)}


async def engine(exchange: ScriptedExchange) -> None:
    if exchange.json.get("stream"):
        await exchange.stream(chunk("one"), chunk("two"), finish(), DONE)
    else:
        await exchange.answer({"choices": [{"index": 0, "message": {"content": "hi"}, "finish_reason": "stop"}]})


def readable(answer: Answer) -> bool:
    names = [name.lower() for name, _ in answer.fields if name.lower().startswith("access-control-")]
    assert len(names) == len(set(names))
    assert "Origin" in [value for name, value in answer.fields if name.lower() == "vary"]
    return answer.headers.get("access-control-allow-origin") == PAGE


async def test_every_kind_of_answer_can_be_read_by_a_listed_page() -> None:
    async with running_edge(engine, keys=KEYS, **CORS) as edge:
        bearer = {"authorization": f"Bearer {KEY}", "origin": PAGE}
        async with Raw.to(edge.url) as client:
            for body in ({"model": "m", "stream": True}, {"model": "m"}):
                answer = await client.ask(post(body, headers=bearer))
                assert (answer.status, readable(answer)) == (200, True)
            for request, status in (
                (post(path="/v1/models", method="GET", headers=bearer), 200),
                (post(path="/v1/models", method="GET", headers={"origin": PAGE}), 401),
                (post({"model": 7}, headers=bearer), 400),
                (post(path="/nowhere", method="GET", headers=bearer), 404),
                (post(path="/v1/models", method="PUT", headers=bearer), 405),
                (post(path="/", method="GET", headers=bearer), 200),
            ):
                answer = await client.ask(request)
                assert (answer.status, readable(answer)) == (status, True), request
        async with Raw.to(edge.url) as client:
            # The server refuses before the application sees anything.
            lines = f"Origin: {PAGE}\r\n" + f"X-Large: {'x' * 40_000}\r\n"
            answer = await client.ask(f"GET / HTTP/1.1\r\nHost: h\r\n{lines}\r\n".encode())
            assert (answer.status, readable(answer)) == (431, True)


async def test_a_page_that_is_not_listed_reads_nothing() -> None:
    async with running_edge(engine, **CORS) as edge, Raw.to(edge.url) as client:
        for origin in ("https://evil.example", "null", f"{PAGE}.evil.example"):
            answer = await client.ask(post({"model": "m", "stream": True}, headers={"origin": origin}))
            assert (answer.status, readable(answer)) == (200, False)
        answer = await client.ask(post({"model": "m"}))
        assert (answer.status, readable(answer)) == (200, False)


async def test_preflights() -> None:
    wants = {
        "access-control-request-method": "POST",
        "access-control-request-headers": "authorization,x-stainless-os",
    }
    async with running_edge(engine, keys=KEYS, **CORS) as edge, Raw.to(edge.url) as client:
        for path in ("/v1/chat/completions", "/v1/streams/s", "/v1/client_tokens", "/v1/later"):
            answer = await client.ask(post(path=path, method="OPTIONS", headers={"origin": PAGE, **wants}))
            assert (answer.status, readable(answer)) == (204, True), "without a key: browsers send none"
            assert answer.headers["access-control-allow-headers"] == "authorization,x-stainless-os"
            assert answer.headers["access-control-max-age"] == "600"
            assert answer.body == b""
        answer = await client.ask(post(method="OPTIONS", headers={"origin": "https://evil.example", **wants}))
        assert (answer.status, readable(answer)) == (403, False)
        assert "cors_origins" in answer.error["message"]
        assert (await client.ask(post(method="OPTIONS", headers={"origin": PAGE}))).status == 405
    async with running_edge(engine) as edge, Raw.to(edge.url) as client:
        answer = await client.ask(post(method="OPTIONS", headers={"origin": PAGE, **wants}))
        assert answer.status == 403
        assert not any(name.startswith("access-control-") for name in answer.headers)


@pytest.mark.parametrize("origin", ["x" * 5_000, "https://app.example\t", 'https://"><script>', "https://ä"])
async def test_hostile_origins_are_shown_short_and_never_as_headers(origin: str) -> None:
    async with running_edge(engine, **CORS) as edge, Raw.to(edge.url) as client:
        headers = {"origin": origin, "access-control-request-method": "POST"}
        answer = await client.ask(post(method="OPTIONS", headers=headers))
        assert answer.status == 403
        assert len(answer.error["message"]) < 400
        assert "access-control-allow-origin" not in answer.headers
