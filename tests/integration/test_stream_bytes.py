"""What the engine sends is what the client gets, byte for byte: the simulator asked directly, and through the edge.

The same request under the same `X-Request-Id` gives the same bytes from the simulator, but for `created` (the second
of the request) and the random ids of tool calls; those are made equal before anything is compared.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.support.exchange import Answer, Exchange, chat
from tests.support.rig import Rig, rig

VECTORS = Path(__file__).parent.parent / "vectors" / "vllm"
MAX_EVENT_BYTES = 64 * 1024
PATHS = ("/v1/chat/completions", "/v1/completions", "/v1/embeddings")
_VOLATILE = ((re.compile(rb'"created":\d+'), b'"created":0'), (re.compile(rb"tool-[0-9a-f]{16}"), b"tool-0"))


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    edge = {"max_event_bytes": MAX_EVENT_BYTES}
    with rig(tmp_path_factory.mktemp("bytes"), {"alpha": {}}, edge=edge) as ours:
        yield ours


class Request(NamedTuple):
    name: str
    path: str
    body: bytes

    @property
    def streams(self) -> bool:
        return bool(json.loads(self.body).get("stream"))


def captured(*prefixes: str) -> list[Any]:
    """Return captured requests, as parameters."""
    found = []
    for file in sorted(VECTORS.glob("*.req")):
        head, _, body = file.read_bytes().partition(b"\r\n\r\n")
        path = head.split()[1].decode()
        if file.stem.startswith(prefixes) and path in PATHS:
            found.append(pytest.param(Request(file.stem, path, body), id=file.stem))
    assert found
    return found


def exchange(url: str, request: Request, sim: str = "") -> Answer:
    headers = {"x-request-id": f"bytes-{request.name}", **({"x-sim": sim} if sim else {})}
    with Exchange(url) as ours:
        return ours.send("POST", request.path, request.body, headers).read()


def steady(data: bytes) -> bytes:
    for pattern, instead in _VOLATILE:
        data = pattern.sub(instead, data)
    return data


def forced(request: Request) -> Request:
    """Return the request as the edge sends it on: with usage asked for."""
    body = json.loads(request.body)
    body["stream_options"] = {**(body.get("stream_options") or {}), "include_usage": True}
    return request._replace(body=json.dumps(body).encode())


def expected(direct: str, request: Request, sim: str = "") -> list[bytes]:
    """Return the data events that a client of the edge must see."""
    options = json.loads(request.body).get("stream_options") or {}
    if options.get("include_usage") or options.get("continuous_usage_stats"):
        return [steady(event) for event in exchange(direct, request, sim).data]
    events = [steady(event) for event in exchange(direct, forced(request), sim).data]
    kept = [event for event in events if b'"choices":[],"usage":{' not in event]
    assert len(kept) == len(events) - 1, "the engine was asked for one usage chunk"
    return kept


def by_choice(events: list[bytes]) -> list[bytes]:
    """Return the events of each choice in turn, then those of none."""
    choice = re.compile(rb'"choices":\[\{"index":(\d+)')
    return sorted(events, key=lambda event: int(found[1]) if (found := choice.search(event)) else 1_000)


def assert_whole_events(answer: Answer) -> None:
    """Every HTTP chunk from the edge begins and ends with an event (law 4)."""
    assert answer.whole
    for chunk in answer.chunks:
        assert chunk.startswith((b"data: ", b": ping")), chunk
        assert chunk.endswith((b"\n\n", b"\r\n\r\n")), chunk


@pytest.mark.parametrize("request_", [each for each in captured("a", "b07") if each.values[0].streams])
def test_captured_streams_arrive_byte_for_byte(site: Rig, request_: Request) -> None:
    answer = exchange(site.url, request_)
    assert answer.status == 200, answer.body
    assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert_whole_events(answer)
    ours, theirs = [steady(event) for event in answer.data], expected(site.url_of("alpha"), request_)
    if json.loads(request_.body).get("n", 1) > 1:
        # Choices take turns as the engine's clock has it; each of them must be told in its own order.
        ours, theirs = by_choice(ours), by_choice(theirs)
    assert ours == theirs
    assert answer.done


@pytest.mark.parametrize(
    "request_", [each for each in captured("b", "i01", "i02", "i03", "i10") if not each.values[0].streams]
)
def test_captured_answers_arrive_byte_for_byte(site: Rig, request_: Request) -> None:
    body = request_.body.replace(b'"tiny-embed"', b'"tiny"')
    request_ = request_._replace(body=body)
    direct, answer = exchange(site.url_of("alpha"), request_), exchange(site.url, request_)
    assert answer.status == direct.status
    assert steady(answer.body) == steady(direct.body)
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["x-request-id"] == f"bytes-{request_.name}"


@pytest.mark.parametrize(
    "name",
    [
        *("c02_missing_messages", "c02b_messages_wrong_type", "c02c_empty_messages"),
        *("c04_max_tokens_neg", "c04b_max_tokens_0", "c04c_max_tokens_huge", "c04d_max_tokens_str", "c06_temp_neg"),
        *("c06c_top_p", "c06d_logprobs_many", "c07_tool_choice_no_tools", "c09_image_part"),
    ],
)
def test_the_engines_own_verdict_on_a_request_arrives_verbatim(site: Rig, name: str) -> None:
    (request_,) = (each.values[0] for each in captured(name) if each.id == name)
    direct, answer = exchange(site.url_of("alpha"), request_), exchange(site.url, request_)
    assert 400 <= direct.status < 500
    assert (answer.status, answer.body) == (direct.status, direct.body)


FRAMINGS = {
    "one-byte-writes": "split=1",
    "two-byte-writes": "split=2",
    "odd-writes": "split=7",
    "half-events": "split=150",
    "three-events-a-chunk": "merge=3",
    "all-events-in-one-chunk": "merge=1000",
    "crlf": "crlf=true",
    "crlf-in-single-bytes": "crlf=true,split=1",
    "crlf-in-odd-writes": "crlf=true,split=3,merge=2",
    "close-delimited": "close_delimited=true",
    "close-delimited-in-pieces": "close_delimited=true,split=11",
    "role-first": "role_early=true",
    "usage-in-every-chunk": "usage=continuous",
    "large-events": f"bytes={MAX_EVENT_BYTES - 1024},tokens=4",
    "large-events-in-pieces": f"bytes={MAX_EVENT_BYTES - 1024},tokens=3,split=4096",
    "malformed-json": "garbage=json",
    "invalid-utf8": "garbage=utf8",
}


@pytest.mark.parametrize("sim", FRAMINGS.values(), ids=FRAMINGS)
def test_however_the_engine_frames_them_events_arrive_whole_and_unchanged(site: Rig, sim: str) -> None:
    request_ = Request("framing", PATHS[0], json.dumps(chat(stream=True)).encode())
    sim = f"seed=5,tokens=12,{sim}"
    answer = exchange(site.url, request_, sim)
    assert answer.status == 200, answer.body
    assert_whole_events(answer)
    assert [steady(event) for event in answer.data] == expected(site.url_of("alpha"), request_, sim)


def test_a_line_that_is_no_field_is_ignored_as_the_grammar_says(site: Rig) -> None:
    request_ = Request("line", PATHS[0], json.dumps(chat(stream=True)).encode())
    answer = exchange(site.url, request_, "seed=5,tokens=6,garbage=line")
    assert b"no field" not in answer.body
    assert [steady(event) for event in answer.data] == expected(site.url_of("alpha"), request_, "seed=5,tokens=6")


def test_the_engines_comments_are_dropped(site: Rig) -> None:
    request_ = Request("comments", PATHS[0], json.dumps(chat(stream=True)).encode())
    sim = "seed=5,tokens=8,itl_ms=25,keepalive_ms=10"
    assert exchange(site.url_of("alpha"), request_, sim).body.count(b": keep-alive\n\n") >= 3
    answer = exchange(site.url, request_, sim)
    assert b"keep-alive" not in answer.body
    assert answer.pings == 0
    assert [steady(event) for event in answer.data] == expected(site.url_of("alpha"), request_, sim)


def test_paced_events_arrive_one_by_one_and_not_in_bursts(site: Rig) -> None:
    request_ = Request("paced", PATHS[0], json.dumps(chat(stream=True)).encode())
    answer = exchange(site.url, request_, "seed=5,tokens=10,itl_ms=40")
    # The role chunk travels with the first token; [DONE] follows the last at once.
    assert len(answer.chunks) >= 7, "two may come together where nobody looks for a while"
    took = answer.times[-1] - answer.times[0]
    assert took >= 0.6 * 9 * 0.040, f"nine gaps of 40 ms took {took * 1000:.0f} ms"


def test_an_event_beyond_the_bound_before_anything_was_sent_is_a_502(site: Rig) -> None:
    request_ = Request("oversized", PATHS[0], json.dumps(chat(stream=True)).encode())
    answer = exchange(site.url, request_, f"tokens=3,bytes={4 * MAX_EVENT_BYTES}")
    assert answer.status == 502
    assert answer.json["error"]["code"] == "event_too_large"
    assert str(MAX_EVENT_BYTES) in answer.json["error"]["message"]
    assert answer.headers["x-should-retry"] == "false"
    site.wait_quiet()


@pytest.mark.parametrize(
    ("asked", "events"), [({"include_usage": True}, 1), (None, 0), ({"include_usage": False}, 0)]
)
def test_the_usage_chunk_arrives_for_those_who_asked(site: Rig, asked: dict[str, Any] | None, events: int) -> None:
    body = chat(stream=True, **({"stream_options": asked} if asked is not None else {}))
    answer = exchange(site.url, Request("usage", PATHS[0], json.dumps(body).encode()), "tokens=5")
    usage = [frame["usage"] for frame in answer.frames if frame.get("usage")]
    assert len(usage) == events
    assert all(one["completion_tokens"] == 5 for one in usage)
    assert answer.done


def test_a_client_of_http_1_0_gets_the_same_events_and_the_close_ends_them(site: Rig) -> None:
    body = json.dumps(chat(stream=True)).encode()
    head = f"content-type: application/json\r\ncontent-length: {len(body)}\r\nx-request-id: bytes-old\r\n"
    with Exchange(site.url) as ours:
        ours.socket.sendall(f"POST {PATHS[0]} HTTP/1.0\r\n{head}x-sim: seed=5,tokens=6\r\n\r\n".encode() + body)
        answer = ours.read()
    assert "transfer-encoding" not in answer.headers
    want = expected(site.url_of("alpha"), Request("old", PATHS[0], body), "seed=5,tokens=6")
    assert [steady(event) for event in answer.data] == want
