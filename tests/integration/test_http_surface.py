"""What the edge's public port says to well-meant requests and to common mistakes, byte for byte on real sockets."""

from __future__ import annotations

import json

import pytest

from streamkit.wire.keys import KeyRecord, KeySnapshot, digest, new_key
from streamkit.wire.route import RouteAnswer, Shed
from tests.support.inprocess import DONE, MODEL, ScriptedExchange, chunk, finish, running_edge
from tests.support.raw import Raw, post

pytestmark = pytest.mark.anyio

STREAM = {"model": MODEL, "stream": True, "messages": []}
WHOLE = {"model": MODEL, "messages": []}
ANSWER = {"id": "1", "object": "chat.completion", "choices": [], "usage": {"prompt_tokens": 1, "total_tokens": 1}}


async def engine(exchange: ScriptedExchange) -> None:
    """Answer as an engine does that has no trouble."""
    if exchange.json.get("stream"):
        await exchange.stream(chunk("Hel"), chunk("lo"), finish(), DONE)
    else:
        await exchange.answer(ANSWER)


async def test_a_chunked_request_body_arrives_whole_in_whatever_pieces_it_comes():
    body = json.dumps(WHOLE).encode()
    head = post(headers={"content-length": "", "transfer-encoding": "chunked"})
    async with running_edge(engine) as edge, Raw.to(edge.url) as client:
        one_by_one = b"".join(b"1\r\n%c\r\n" % byte for byte in body) + b"0\r\n\r\n"
        answer = await client.ask(head, *(one_by_one[at : at + 7] for at in range(0, len(one_by_one), 7)))
        assert (answer.status, answer.json) == (200, ANSWER)
        assert edge.engine.last.json["messages"] == []
        answer = await client.ask(head, b"%x;ext=1\r\n%b\r\n0\r\nx-request-id: trailer\r\n\r\n" % (len(body), body))
        assert answer.status == 200
        assert answer.headers["x-request-id"] != "trailer", "trailers are not headers"
        assert edge.engine.last.body == edge.engine.exchanges[0].body


async def test_a_request_in_pieces_of_one_byte_is_a_request():
    request = post(WHOLE)
    async with running_edge(engine) as edge, Raw.to(edge.url) as client:
        answer = await client.ask(*(request[at : at + 1] for at in range(len(request))))
        assert (answer.status, answer.json) == (200, ANSWER)


async def test_the_answer_keeps_its_own_length_or_comes_in_chunks_and_the_connection_serves_on():
    async with running_edge(engine) as edge, Raw.to(edge.url) as client:
        for _ in range(2):
            answer = await client.ask(post(STREAM))
            assert answer.headers["transfer-encoding"] == "chunked"
            assert answer.headers["content-type"].startswith("text/event-stream")
            assert answer.body.endswith(DONE)
            answer = await client.ask(post(WHOLE))
            assert answer.headers["content-length"] == str(len(answer.body))
            assert "connection" not in answer.headers
        for request in (post(b"{"), post(path="/nowhere"), post(STREAM, method="PUT"), post({"model": "none"})):
            assert (await client.ask(request)).status in (400, 404, 405, 200)
        assert (await client.ask(post(WHOLE))).status == 200
        await edge.quiet()
        assert edge.engine.connections == 1


BAD_BODIES = [
    (b"", "body", "empty"),
    (b" \r\n ", "body", "empty"),
    (b'{"model": "m", "stream": tru}', "body", "byte 2"),
    (b'{"model": "m"', "body", "JSON"),
    (b'{"model": "m"} x', "body", "byte 1"),
    (b"[1]", "body", "object"),
    (b'"text"', "body", "object"),
    (b"null", "body", "object"),
    (b"\xff\xfe", "body", "byte 0"),
    (b'{"model": "\xff"}', "body", "UTF-8"),
    (b"{}", "model", "required"),
    (b'{"model": 3}', "model", "str"),
    (b'{"model": ""}', "model", "length"),
    (b'{"model": "m", "stream": "yes"}', "stream", "bool"),
    (b'{"model": "m", "n": 0}', "n", ">= 1"),
    (b'{"model": "m", "stream_options": {"include_usage": 1}}', "stream_options.include_usage", "bool"),
    (b"[" * 5000, "body", ""),
]


async def test_a_bad_body_is_400_and_names_the_field_or_the_byte():
    async with running_edge(engine) as edge, Raw.to(edge.url) as client:
        for body, param, told in BAD_BODIES:
            answer = await client.ask(post(body))
            assert answer.status == 400, body
            error = answer.error
            assert (error["param"], error["code"], error["type"]) == (
                param,
                "invalid_request",
                "invalid_request_error",
            )
            assert told in error["message"], error
            assert answer.headers["x-should-retry"] == "false"
            assert answer.headers["x-request-id"]
        assert not edge.engine.exchanges
        await edge.quiet()


async def test_only_json_is_taken():
    async with running_edge(engine) as edge, Raw.to(edge.url) as client:
        for kind in (
            "",
            "text/plain",
            "application/x-www-form-urlencoded",
            "multipart/form-data; boundary=x",
            "json",
        ):
            answer = await client.ask(post(WHOLE, headers={"content-type": kind}))
            assert answer.status == 415, kind
            assert answer.error["param"] == "Content-Type"
            assert (kind or "nothing") in answer.error["message"]
        for kind in ("application/json;charset=utf-8", "Application/JSON", "application/vnd.x+json"):
            assert (await client.ask(post(WHOLE, headers={"content-type": kind}))).status == 200, kind


async def test_unknown_paths_methods_and_models_say_what_there_is():
    async with running_edge(engine) as edge, Raw.to(edge.url) as client:
        for path in ("/v1/nothing", "/v1/chat/completions/", "/v1", "//", "/V1/models", "/healthz", "/metrics"):
            answer = await client.ask(post(path=path, method="GET"))
            assert (answer.status, answer.error["code"]) == (404, "not_found"), path
            assert answer.headers["x-request-id"]
        assert (await client.ask(post(path="*", method="OPTIONS"))).status == 404
        answer = await client.ask(post(path="/v1/models/none", method="GET"))
        assert (answer.status, answer.error["code"], answer.error["param"]) == (404, "model_not_found", "model")
        for method, path, allowed in (
            ("GET", "/v1/chat/completions", "POST"),
            ("OPTIONS", "/v1/completions", "POST"),
            ("DELETE", "/v1/embeddings", "POST"),
            ("POST", "/v1/models", "GET, HEAD"),
            ("OPTIONS", "/v1/models", "GET, HEAD"),
            ("PUT", "/", "GET, HEAD"),
            ("PROPFIND", "/", "GET, HEAD"),
        ):
            answer = await client.ask(post(path=path, method=method))
            assert (answer.status, answer.headers.get("allow")) == (405, allowed), (method, path)
            assert answer.error["code"] == "method_not_allowed"


async def test_a_model_that_control_does_not_know_is_404_and_a_silent_control_503():
    shed = Shed(code="model_not_found", message="There is no model `none`.")
    answer = RouteAnswer(decision_id="d", ttl_ms=10, shed=shed)
    async with running_edge(route=lambda _: answer) as edge, Raw.to(edge.url) as client:
        said = await client.ask(post({"model": "none"}))
        assert (said.status, said.error["code"], said.error["param"]) == (404, "model_not_found", "model")
        assert said.headers["x-should-retry"] == "false"
    async with running_edge(engine, route_timeout_ms=20) as edge, Raw.to(edge.url) as client:
        edge.control.answering.clear()
        said = await client.ask(post(WHOLE))
        assert (said.status, said.error["code"]) == (503, "no_route")
        assert said.headers["x-headrace-reason"] == "rejected-no-route"
        await edge.quiet()


async def test_head_answers_with_the_headers_of_get_and_no_body():
    async with running_edge(engine) as edge, Raw.to(edge.url) as client:
        for path in ("/", "/v1/models", f"/v1/models/{MODEL}"):
            full = await client.ask(post(path=path, method="GET"))
            await client.send(post(path=path, method="HEAD"))
            head = await client.head()
            assert head.status == 200
            skip = {"date", "x-request-id"}
            assert {k: v for k, v in head.headers.items() if k not in skip} == {
                k: v for k, v in full.headers.items() if k not in skip
            }
        await client.send(post(path="/nowhere", method="HEAD"))
        assert (await client.head()).status == 404
        assert (await client.ask(post(WHOLE))).status == 200, "nothing was left over on the connection"


async def test_the_request_id_is_echoed_when_it_may_be_and_made_when_not():
    async with running_edge(engine) as edge, Raw.to(edge.url) as client:
        for path, method, body in (
            ("/v1/chat/completions", "POST", STREAM),
            ("/v1/chat/completions", "POST", WHOLE),
            ("/v1/models", "GET", b""),
            ("/nowhere", "GET", b""),
        ):
            request = {"path": path, "method": method, "body": body}
            answer = await client.ask(post(**request, headers={"x-request-id": "my-id-1"}))
            assert answer.headers["x-request-id"] == "my-id-1"
            for bad in ("with space", "x" * 129, "caf\u00e9"):
                answer = await client.ask(post(**request, headers={"x-request-id": bad}))
                assert answer.headers["x-request-id"] != bad
                assert len(answer.headers["x-request-id"]) == 32
        assert edge.engine.exchanges[0].headers["x-request-id"] == "my-id-1"


async def test_expect_100_is_answered_only_after_key_type_and_size_pass():
    key = new_key()
    keys = KeySnapshot(version=1, required=True, keys=(KeyRecord(id="k", sha256=digest(key), tenant="t"),))
    body = json.dumps(WHOLE).encode()
    async with running_edge(engine, keys=keys, max_body_bytes=1024) as edge:
        good = {"expect": "100-continue", "authorization": f"Bearer {key}", "content-length": str(len(body))}
        async with Raw.to(edge.url) as client:
            await client.send(post(headers=good))
            assert await client.until(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
            assert (await client.ask(body)).status == 200
            assert (await client.ask(post(WHOLE, headers={"authorization": good["authorization"]}))).status == 200
        for change, status in (
            ({"authorization": "Bearer hr-wrong"}, 401),
            ({"content-type": "text/plain"}, 415),
            ({"content-length": "1025"}, 413),
        ):
            async with Raw.to(edge.url) as client:
                answer = await client.ask(post(headers={**good, **change}))
                assert answer.status == status
                assert answer.error["code"]
                assert answer.headers["connection"] == "close", "whether the body comes is the client's choice now"
                assert await client.ended() == b""
        async with Raw.to(edge.url) as client:
            # HTTP/1.0 knows no 100, even where its client asks for one (RFC 9110 10.1.1).
            answer = await client.ask(post(headers=good, version="1.0"), body)
            assert answer.status == 200
        await edge.quiet()


async def test_a_body_over_the_limit_is_refused_before_it_was_read_and_the_refusal_can_be_read():
    async with running_edge(engine, max_body_bytes=64 * 1024) as edge:
        async with Raw.to(edge.url) as client:
            answer = await client.ask(post(headers={"content-length": "65537"}))
            assert (answer.status, answer.error["code"]) == (413, "too_large")
            assert "65537" in answer.error["message"]
            assert (answer.headers["connection"], await client.ended()) == ("close", b"")
        async with Raw.to(edge.url) as client:
            head = post(headers={"content-length": "", "transfer-encoding": "chunked", "x-request-id": "big"})
            piece = b"8000\r\n" + b" " * 0x8000 + b"\r\n"
            # More than any socket buffer: the rest of it has to be read by somebody, or a reset eats the answer.
            await client.send(head)
            await client.pour(piece, 20 * 1024 * 1024)
            answer = await client.response()
            assert (answer.status, answer.headers["x-request-id"]) == (413, "big")
            assert not await client.gone()
        async with Raw.to(edge.url) as client:
            exact = json.dumps({**WHOLE, "pad": ""}).encode()
            exact = exact[:-2] + b" " * (64 * 1024 - len(exact)) + b'"}'
            assert len(exact) == 64 * 1024
            assert (await client.ask(post(exact))).status == 200
        await edge.quiet()


async def test_any_answer_before_the_request_was_whole_closes_the_connection():
    async with running_edge(engine) as edge:
        for path, status in (("/nowhere", 404), ("/v1/models", 405)):
            async with Raw.to(edge.url) as client:
                answer = await client.ask(post(path=path, headers={"content-length": "100000"}), b"x" * 10)
                assert (answer.status, answer.headers["connection"]) == (status, "close")
                assert await client.ended() == b""


async def test_http_1_0_gets_a_body_that_the_close_ends_and_a_json_answer_with_its_length():
    async with running_edge(engine) as edge:
        for keep in ("", "keep-alive"):
            async with Raw.to(edge.url) as client:
                answer = await client.ask(post(STREAM, version="1.0", headers={"connection": keep}))
                assert "transfer-encoding" not in answer.headers
                assert "content-length" not in answer.headers
                assert answer.headers["connection"] == "close"
                assert answer.body.startswith(b"data: ")
                assert answer.body.endswith(DONE)
            async with Raw.to(edge.url) as client:
                answer = await client.ask(post(WHOLE, version="1.0", headers={"connection": keep}))
                assert answer.json == ANSWER
                assert answer.headers["content-length"] == str(len(answer.body))
                assert await client.ended() == b""
            async with Raw.to(edge.url) as client:
                answer = await client.ask(post(b"{", version="1.0", headers={"connection": keep}))
                assert answer.error["code"] == "invalid_request"
                assert await client.ended() == b""


async def test_http_1_1_with_connection_close_is_chunked_and_then_closed():
    async with running_edge(engine) as edge:
        for body in (STREAM, WHOLE):
            async with Raw.to(edge.url) as client:
                answer = await client.ask(post(body, headers={"connection": "close"}))
                assert (answer.status, answer.headers["connection"], answer.whole) == (200, "close", True)
                assert await client.ended() == b""


async def test_a_bad_offer_of_websocket_is_refused_in_words_and_the_connection_closed():
    offer = {"connection": "Upgrade", "upgrade": "WebSocket", "sec-websocket-version": "13", "x-request-id": "ws"}
    async with running_edge(engine) as edge:
        for path in ("/v1/ws", "/"):
            async with Raw.to(edge.url) as client:
                answer = await client.ask(post(path=path, method="GET", headers=offer), b"\x81\x85frames")
                assert (answer.status, answer.headers["x-request-id"]) == (400, "ws")
                assert "WebSocket" in answer.error["message"]
                assert await client.ended() == b""


async def test_an_offer_of_h2c_is_passed_over_and_its_request_keeps_its_body():
    offer = {"connection": "Upgrade, HTTP2-Settings", "upgrade": "h2c", "http2-settings": "AAMAAABk"}
    body = json.dumps(WHOLE).encode()
    chunked = {**offer, "content-length": "", "transfer-encoding": "chunked"}
    async with running_edge(engine) as edge, Raw.to(edge.url) as client:
        assert (await client.ask(post(WHOLE, headers=offer))).json == ANSWER
        request = post(WHOLE, headers=offer)
        assert (await client.ask(*(request[at : at + 1] for at in range(len(request))))).json == ANSWER
        pieces = (body[:7], body[7:])
        coded = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"
        assert (await client.ask(post(headers=chunked), coded)).json == ANSWER
        # A body that looks like a request stays a body.
        inner = post(path="/v1/models", method="GET")
        answer = await client.ask(post(inner, headers=offer))
        assert (answer.status, answer.error["param"]) == (400, "body")
        assert (await client.ask(post(path="/v1/models", method="GET", headers=offer))).status == 200
        await client.send(post(WHOLE, headers=offer) + post(path="/v1/models", method="GET"))
        assert (await client.response()).json == ANSWER
        assert (await client.response()).json["object"] == "list"


async def test_an_idle_connection_is_closed_after_keep_alive_ms():
    async with running_edge(engine, keep_alive_ms=50) as edge, Raw.to(edge.url) as client:
        answer = await client.ask(post(STREAM))
        assert answer.whole
        assert await client.ended() == b""


async def test_an_answer_with_large_headers_of_the_client_in_it_is_no_way_in():
    async with running_edge(engine) as edge, Raw.to(edge.url) as client:
        answer = await client.ask(post(path="/v1/models/" + "a" * 8000, method="GET"))
        assert (answer.status, answer.error["code"]) == (404, "model_not_found")
        answer = await client.ask(post(path="/%0d%0ax-evil:%201", method="GET"))
        assert answer.status == 404
        assert "x-evil" not in answer.headers


async def test_the_engines_own_refusal_goes_out_as_it_is_and_its_failure_as_an_envelope():
    refusal = {"error": {"message": "too long", "type": "BadRequestError", "param": None, "code": 400}}

    async def refuses(exchange: ScriptedExchange) -> None:
        if "5" in exchange.json["messages"]:
            await exchange.answer({"error": {"message": "boom"}}, status=500)
        else:
            await exchange.answer(refusal, status=400)

    async with running_edge(refuses) as edge, Raw.to(edge.url) as client:
        for stream in (True, False):
            answer = await client.ask(post({**WHOLE, "stream": stream}))
            assert (answer.status, answer.json) == (400, refusal)
            answer = await client.ask(post({**WHOLE, "stream": stream, "messages": "5"}))
            assert (answer.status, answer.error["type"]) == (502, "server_error")
            assert answer.headers["x-request-id"]
            assert answer.headers["x-should-retry"] == "true"
        await edge.quiet()
