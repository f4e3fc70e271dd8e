"""The simulator's behaviour over real sockets: text, disconnects, directives, faults, connections."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import socket
import time
from typing import Any

import openai
import pytest

from simulator.server import Simulator
from tests.support.timing import SOON_S
from tests.unit.simulator.raw import (
    Answer,
    chat,
    connected,
    read_answer,
    read_rest,
    request,
    running,
    send,
    until,
)

pytestmark = pytest.mark.anyio
QUESTION = {"role": "user", "content": "Tell me about rivers"}


async def idle(simulator: Simulator, *, aborted: int) -> None:
    """Gauges are back at 0; the captured engine takes 13-65 ms."""
    await until(lambda: simulator.stats.open == 0, "nothing is open")
    stats = simulator.stats
    assert (stats.running, stats.waiting, stats.aborted) == (0, 0, aborted)


# Text.


async def test_a_question_is_answered_like_a_person_would_want_to_read_it() -> None:
    async with running() as simulator:
        answer = await send(simulator, chat(stream_options={"include_usage": True}))
    assert answer.done
    assert answer.finish_reason == "stop"
    assert "rivers" in answer.text
    assert 100 < answer.data[-1]["usage"]["completion_tokens"] < 900


async def test_a_prefix_is_continued_exactly_streamed_or_not() -> None:
    flags = {"continue_final_message": True, "add_generation_prompt": False}
    async with running() as simulator:
        whole = (await send(simulator, chat(seed=3, max_tokens=60))).text
        cut = await send(simulator, chat(seed=3, max_tokens=60, sim="die_after=23"))
        assert cut.end == "reset"
        assert whole.startswith(cut.text)
        for stream in (True, False):
            messages = [QUESTION, {"role": "assistant", "content": cut.text}]
            rest = await send(simulator, chat(messages=messages, seed=3, max_tokens=37, stream=stream, **flags))
            assert cut.text + rest.text == whole


async def test_an_answer_of_a_given_length_keeps_it_when_continued() -> None:
    async with running() as simulator:
        whole = await send(simulator, chat(sim="tokens=40"))
        assert len([chunk for chunk in whole.data if chunk["choices"][0]["delta"].get("content")]) == 40
        assert whole.finish_reason == "stop"
        start = await send(simulator, chat(sim="tokens=40,end_after=11"))
        assert (start.end, start.done, start.finish_reason) == ("complete", False, None)
        prefill = {"role": "assistant", "content": start.text}
        rest = await send(simulator, chat(messages=[QUESTION, prefill], continue_final_message=True, sim="tokens=40"))
        assert start.text + rest.text == whole.text


async def test_completions_go_on_behind_their_prompt() -> None:
    async with running() as simulator:
        whole = await send(simulator, request("/v1/completions", {"prompt": "Once upon", "max_tokens": 30}))
        first = await send(simulator, request("/v1/completions", {"prompt": "Once upon", "max_tokens": 10}))
        longer = {"prompt": "Once upon" + first.text, "max_tokens": 20}
        assert first.text + (await send(simulator, request("/v1/completions", longer))).text == whole.text


async def test_the_openai_client_reads_it_all() -> None:
    async with running() as simulator, openai.AsyncOpenAI(base_url=f"{simulator.url}/v1", api_key="none") as client:
        whole = await client.chat.completions.create(model="sim-chat", messages=[QUESTION], max_tokens=20)  # type: ignore[list-item]
        text = ""
        stream = await client.chat.completions.create(
            model="sim-chat", messages=[QUESTION], max_tokens=20, stream=True  # type: ignore[list-item]
        )  # fmt: skip
        async for chunk in stream:
            text += chunk.choices[0].delta.content or ""
        assert text == whole.choices[0].message.content
        embedded = await client.embeddings.create(model="sim-chat", input=["a river", "the river", "tax law"])
        one, near, far = (item.embedding for item in embedded.data)
        assert dot(one, near) > dot(one, far)
        with pytest.raises(openai.NotFoundError):
            await client.chat.completions.create(model="other", messages=[QUESTION])  # type: ignore[list-item]


def dot(a: list[float], b: list[float]) -> float:
    return sum(x * y for x, y in zip(a, b, strict=True))


async def test_a_schema_is_followed_and_a_forced_tool_called() -> None:
    schema = {"type": "object", "properties": {"city": {"enum": ["Oslo", "Rome"]}}, "required": ["city"]}
    tool = {"type": "function", "function": {"name": "weather", "parameters": schema}}
    async with running() as simulator:
        shape = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
        answer = await send(simulator, chat(response_format=shape))
        assert json.loads(answer.text)["city"] in ("Oslo", "Rome")
        called = await send(simulator, chat(tools=[tool], tool_choice="required", stream=False))
        function = called.json["choices"][0]["message"]["tool_calls"][0]["function"]
        assert function["name"] == "weather"
        assert json.loads(function["arguments"])["city"] in ("Oslo", "Rome")


# Leaving.


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("how", ["close", "half-close", "reset"])
async def test_a_client_that_leaves_stops_its_work(stream: bool, how: str) -> None:
    async with running(max_num_seqs=2, itl_ms=5) as simulator, contextlib.AsyncExitStack() as stack:
        writers = []
        for _ in range(4):
            reader, writer = await stack.enter_async_context(connected(simulator))
            writer.write(chat(stream=stream, ignore_eos=True))
            writers.append((reader, writer))
        await until(lambda: (simulator.stats.running, simulator.stats.waiting) == (2, 2), "two run, two wait")
        for _, writer in writers:
            if how == "half-close":
                writer.write_eof()
            elif how == "close":
                writer.close()
            else:
                abort(writer)
        await idle(simulator, aborted=4)
        if how == "half-close":
            for reader, _ in writers:
                await asyncio.wait_for(reader.read(), 5)  # the server closes


def abort(writer: asyncio.StreamWriter) -> None:
    peer = writer.get_extra_info("socket")
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
    writer.transport.abort()


async def test_the_engine_does_not_wait_for_a_slow_reader() -> None:
    async with running(itl_ms=0, max_model_len=8192) as simulator:
        quiet = socket.socket()
        quiet.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        quiet.setblocking(False)
        loop = asyncio.get_running_loop()
        with quiet:
            await loop.sock_connect(quiet, ("127.0.0.1", simulator.port))
            await loop.sock_sendall(quiet, chat(max_tokens=300, ignore_eos=True, sim="bytes=20000"))
            await until(lambda: simulator.stats.finished == 1, "300 tokens of 20 kB, nobody reading")


async def test_a_reader_too_far_behind_is_reset_and_counted() -> None:
    async with running(itl_ms=0, output_buffer_bytes=100_000) as simulator:
        async with connected(simulator) as (_, writer):
            writer.transport.pause_reading()  # type: ignore[attr-defined]
            writer.write(chat(ignore_eos=True, sim="bytes=65536"))
            await until(lambda: simulator.stats.overflowed == 1, "its buffer is full")
        await idle(simulator, aborted=1)


async def test_headers_leave_while_the_request_still_waits() -> None:
    async with running(max_num_seqs=1) as simulator, connected(simulator) as (_, first):
        first.write(chat(ignore_eos=True))
        async with connected(simulator) as (reader, writer):
            writer.write(chat(max_tokens=2))
            head = await read_answer(reader, head_only=True)
            assert head.code == 200
            assert simulator.stats.waiting == 1
            first.close()
            assert (await read_rest(reader, head)).done


# Directives.


async def streamed(sim: str, **more: Any) -> Answer:
    async with running() as simulator:
        answer = await send(simulator, chat(sim=sim, max_tokens=9, **more))
        await until(lambda: simulator.stats.open == 0, "it is over")
        return answer


def contents(answer: Answer) -> list[str]:
    found = [choice["delta"].get("content") for chunk in answer.data for choice in chunk.get("choices", ())]
    return [text for text in found if text]


@pytest.mark.parametrize(
    ("sim", "tokens", "end", "done", "finish"),
    [
        ("die_after=4", 4, "reset", False, None),
        ("die_after=0", 0, "reset", False, None),
        ("eof_after=4", 4, "eof", False, None),
        ("end_after=4", 4, "complete", False, None),
        ("error_after=4", 4, "complete", True, None),
        ("error_first=1", 0, "complete", True, None),
        ("no_done=1", 9, "complete", False, "length"),
        ("no_finish=1", 9, "complete", True, None),
        ("close_delimited=1", 9, "eof", True, "length"),
        ("merge=4", 9, "complete", True, "length"),
        ("crlf=1", 9, "complete", True, "length"),
        ("split=7", 9, "complete", True, "length"),
        ("split=1,merge=2,crlf=1", 9, "complete", True, "length"),
        ("split=50,eof_after=4", 4, "eof", False, None),
        ("merge=3,end_after=4", 4, "complete", False, None),
        ("#2 die_after=1; tokens=5", 5, "complete", True, "stop"),
        ("@somebody-else status=500", 9, "complete", True, "length"),
    ],
)
async def test_a_stream_misbehaves_as_it_is_told(
    sim: str, tokens: int, end: str, done: bool, finish: str | None
) -> None:
    answer = await streamed(sim)
    assert answer.code == 200
    assert (len(contents(answer)), answer.end, answer.done, answer.finish_reason) == (tokens, end, done, finish)
    assert ("error" in answer.data[-1] if answer.data else False) == sim.startswith("error_")


async def test_framing_follows_the_directives() -> None:
    assert len((await streamed("merge=4")).chunks) == 3  # role, 9 tokens and [DONE], by four
    crlf = (await streamed("crlf=1")).body
    assert crlf.count(b"\r\n\r\n") == 11
    assert b"\n\n" not in crlf
    assert (await streamed("close_delimited=1")).header("connection") == "close"


async def test_split_pieces_arrive_one_by_one() -> None:
    async with running() as simulator:
        with socket.create_connection(("127.0.0.1", simulator.port)) as peer:
            peer.setblocking(False)
            loop = asyncio.get_running_loop()
            await loop.sock_sendall(peer, chat(sim="split=9", max_tokens=2))
            sizes = []
            while not (sizes and sizes[-1] == 0):
                sizes.append(len(await asyncio.wait_for(loop.sock_recv(peer, 65536), 5)))
                if sum(sizes) > 600:
                    break
        assert len(sizes) > 10  # the kernel may join what is read late


@pytest.mark.parametrize("kind", ["json", "line", "utf8"])
async def test_garbage_stands_where_it_was_asked_for(kind: str) -> None:
    answer = await streamed(f"garbage={kind},garbage_after=2")
    events = answer.body.split(b"\n\n")
    broken = {"json": b'"choi', "line": b"no field", "utf8": b"\xff\xfe"}[kind]
    assert broken in events[3]  # role, two tokens, garbage
    assert events[-2] == b"data: [DONE]"


@pytest.mark.parametrize("sim", ["stall_after=3", "stall_after=0", "role_only=1", "stall_headers=1"])
async def test_a_stall_lasts_until_the_client_leaves_and_keeps_its_place(sim: str) -> None:
    tokens = 3 if sim == "stall_after=3" else 0
    async with running() as simulator:
        async with connected(simulator) as (reader, writer):
            writer.write(chat(sim=f"{sim},keepalive_ms=5"))
            await until(lambda: simulator.stats.open == 1, "it is in flight")
            if sim == "stall_headers=1":
                with pytest.raises(TimeoutError):
                    await asyncio.wait_for(reader.read(1), 0.05)
            else:
                assert (await read_answer(reader, head_only=True)).code == 200
                seen = await asyncio.wait_for(reader.readuntil(b": keep-alive\n\n\r\ne\r\n: keep-alive\n\n\r\n"), 5)
                assert seen.count(b'"finish_reason":null') == (tokens + 1 if tokens or sim == "role_only=1" else 0)
                assert simulator.stats.running == 1
        await idle(simulator, aborted=1)


@pytest.mark.parametrize(
    ("sim", "code", "end"),
    [
        ("status=500", 500, "complete"),
        ("status=418", 418, "complete"),
        ("error_after=3", 500, "complete"),
        ("die_after=3", 0, "reset"),
        ("eof_after=3", 0, "eof"),
        ("end_after=3", 0, "eof"),
    ],
)
async def test_an_answer_that_is_not_streamed_misbehaves_too(sim: str, code: int, end: str) -> None:
    answer = await streamed(sim, stream=False)
    assert answer.end == end
    assert (answer.code if answer.status else 0) == code
    if code:
        assert answer.json["error"]["code"] == code


async def test_time_is_told_by_directives() -> None:
    async with running(ttft_ms=5000, itl_ms=5000) as simulator:
        start = time.monotonic()
        answer = await send(simulator, chat(sim="latency_ms=30,ttft_ms=20,itl_ms=10,stamp=1", max_tokens=6))
        stamps = [int(text) / 1e9 for text in contents(answer)]
        assert 0.045 <= stamps[0] - start < SOON_S
        assert 0.045 <= stamps[-1] - stamps[0] < SOON_S
        assert all(len(text) == 20 for text in contents(answer))


async def test_tokens_are_padded() -> None:
    assert {len(text) for text in contents(await streamed("bytes=50"))} == {50}
    assert {len(text) for text in contents(await streamed("stamp=1,bytes=50"))} == {50}
    assert "".join(contents(await streamed("bytes=4"))).startswith("1 ..2 ..3 ..")


async def test_usage_is_overridden() -> None:
    assert not any(
        "usage" in chunk for chunk in (await streamed("usage=off", stream_options={"include_usage": True})).data
    )
    assert (await streamed("usage=on")).data[-1]["usage"]["completion_tokens"] == 9
    assert all("usage" in chunk for chunk in (await streamed("usage=continuous")).data)


async def test_the_role_may_come_early() -> None:
    async with running(ttft_ms=10_000) as simulator, connected(simulator) as (reader, writer):
        writer.write(chat(sim="role_early=1"))
        assert b'"role":"assistant"' in await asyncio.wait_for(reader.readuntil(b"\n\n"), 5)


async def test_bad_grammar_is_400_and_says_where() -> None:
    async with running() as simulator:
        answer = await send(simulator, chat(sim="tokens=3; speed=9"))
        assert answer.code == 400
        assert answer.json["error"]["message"] == "X-Sim clause 2, position 10: unknown key 'speed'"
        answer = await send(simulator, chat(sim="tokens=3", headers={"X-Sim-Attempt": "zero"}))
        assert (answer.code, answer.json["error"]["param"]) == (400, "x-sim-attempt")
        answer = await send(simulator, chat(sim="#2 status=503", headers={"X-Sim-Attempt": "2"}))
        assert answer.code == 503


# Faults.


async def test_a_fault_is_set_told_and_healed_at_run_time() -> None:
    async with running() as simulator:

        async def fault(name: str | None) -> Answer:
            return await send(simulator, request("/sim/fault", {"fault": name}))

        assert (await fault("error500")).json == {"fault": "error500"}
        assert (await send(simulator, request("/sim/fault"))).json == {"fault": "error500"}
        assert (await send(simulator, chat())).code == 500
        assert (await send(simulator, request("/health"))).code == 200
        await fault("unhealthy")
        assert (await send(simulator, request("/health"))).code == 503
        await fault("refuse")
        assert (await send(simulator, request("/health"))).end == "reset"
        await fault("tokens=2,itl_ms=1")
        assert len(contents(await send(simulator, chat()))) == 2
        assert len(contents(await send(simulator, chat(sim="tokens=4")))) == 4
        assert (await fault("tired")).code == 400
        assert (await fault(None)).json == {"fault": None}
        assert (await send(simulator, chat(max_tokens=3))).done
        assert (await send(simulator, request("/sim/stats"))).json["failed"] == 0


# Connections.


async def test_one_connection_serves_many_requests_and_closes_when_idle() -> None:
    async with running(keep_alive_idle_ms=40) as simulator, connected(simulator) as (reader, writer):
        for _ in range(20):
            writer.write(chat(max_tokens=1))
            assert (await read_answer(reader)).done
        start = time.monotonic()
        assert await asyncio.wait_for(reader.read(), 5) == b""
        assert 0.03 < time.monotonic() - start < SOON_S


async def test_pipelined_requests_are_answered_in_order() -> None:
    async with running() as simulator, connected(simulator) as (reader, writer):
        writer.write(chat(max_tokens=2) + request("/version") + chat(max_tokens=1, stream=False))
        assert (await read_answer(reader)).done
        assert (await read_answer(reader)).json == {"version": "0.32.0"}
        assert (await read_answer(reader)).json["usage"]["completion_tokens"] == 1


async def test_http_1_0_gets_a_body_that_ends_with_the_connection() -> None:
    async with running() as simulator:
        answer = await send(simulator, chat(max_tokens=2).replace(b" HTTP/1.1\r\n", b" HTTP/1.0\r\n"))
        assert (answer.end, answer.done, answer.header("transfer-encoding")) == ("eof", True, None)


async def test_requests_in_pieces_expectations_and_chunked_bodies_are_understood() -> None:
    raw = chat(max_tokens=2)
    head, body = raw.split(b"\r\n\r\n", 1)
    async with running() as simulator:
        async with connected(simulator) as (reader, writer):
            for index in range(0, len(raw), 11):
                writer.write(raw[index : index + 11])
                await writer.drain()
            assert (await read_answer(reader)).done
        async with connected(simulator) as (reader, writer):
            writer.write(head + b"\r\nExpect: 100-continue\r\n\r\n")
            assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
            writer.write(body)
            assert (await read_answer(reader)).done
        chunked = re.sub(rb"Content-Length: \d+", b"Transfer-Encoding: chunked", head)
        pieces = b"".join(
            b"%x\r\n%b\r\n" % (len(body[i : i + 40]), body[i : i + 40]) for i in range(0, len(body), 40)
        )
        assert (await send(simulator, chunked + b"\r\n\r\n" + pieces + b"0\r\n\r\n")).done


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        (b"nonsense\r\n\r\n", 400),
        (request("/v1/chat/completions", b"x" * 3000), 413),
        (request("/version", headers={"X-Long": "x" * 3000}), 431),
    ],
)
async def test_what_cannot_be_served_is_refused_and_closed(raw: bytes, code: int) -> None:
    async with running(body_bytes=2000, header_bytes=2000) as simulator, connected(simulator) as (reader, writer):
        writer.write(raw)
        assert (await read_answer(reader)).code == code
        assert await asyncio.wait_for(reader.read(), 5) == b""


@pytest.mark.parametrize(
    "body",
    [
        {"messages": [7]},
        {"messages": [{"role": "user", "content": 7}], "stop": 5},
        {"messages": [QUESTION], "response_format": {"type": "json_schema"}, "stream_options": {}},
        {"messages": [QUESTION], "n": 10**9},
        {"messages": [QUESTION], "tools": [7], "tool_choice": "required"},
        {"messages": [QUESTION], "tools": [{"function": {"name": "a"}}], "tool_choice": {"function": {"name": "b"}}},
        {"messages": [{"role": "user", "content": [{"type": "input_audio"}]}]},
        {"prompt": [["a"], {}]},
        {"prompt": None},
        {"prompt": "x", "logprobs": "many"},
        {"messages": [QUESTION], "max_tokens": 3, "model": ["sim-chat"]},
        b'{"messages": [{"role": "user", "content": "\\ud83d"}], "max_tokens": 1}',
        b'{"messages": [{"role": "user", "content": "\xff"}], "max_tokens": 1}',
        b'{"messages": NaN}',
    ],
)
async def test_odd_bodies_are_answered_and_the_server_lives_on(body: Any) -> None:
    path = "/v1/completions" if isinstance(body, dict) and "prompt" in body else "/v1/chat/completions"
    async with running() as simulator:
        answer = await send(simulator, request(path, body))
        assert answer.code in (200, 400, 404), answer.body
        assert (await send(simulator, chat(max_tokens=1))).done


async def test_a_request_id_is_echoed_by_the_id_and_the_header() -> None:
    async with running(request_id_headers=True) as simulator:
        answer = await send(simulator, chat(max_tokens=1, headers={"X-Request-Id": "abc-1"}))
        assert answer.header("x-request-id") == "abc-1"
        assert {chunk["id"] for chunk in answer.data} == {"chatcmpl-abc-1"}
        assert re.fullmatch("[0-9a-f]{32}", (await send(simulator, request("/health"))).header("x-request-id") or "")


async def test_metrics_count_what_happened() -> None:
    async with running(block_tokens=4, kv_blocks=10_000) as simulator:
        await send(simulator, chat(max_tokens=5))
        await send(simulator, chat(max_tokens=5, n=2))
        async with connected(simulator) as (_, writer):
            writer.write(chat(ignore_eos=True))
            await until(lambda: simulator.stats.tokens > 20, "it speaks")
            page = (await send(simulator, request("/metrics"))).body.decode()
    values = dict(re.findall(r"^vllm:(\w+)(?:\{[^}]*\})? (\S+)$", page, re.MULTILINE))
    reasons = dict(
        re.findall(r'^vllm:request_success_total\{.*finished_reason="(\w+)".*\} (\S+)$', page, re.MULTILINE)
    )
    assert values["num_requests_running"] == "1.0"
    assert float(values["kv_cache_usage_perc"]) > 0
    assert float(values["prefix_cache_hits_total"]) > 0
    assert float(values["generation_tokens_total"]) > 20
    assert values["time_to_first_token_seconds_count"] == "4.0"
    assert reasons["length"] == "3.0"


async def test_two_hundred_streams_at_a_time_all_end_well() -> None:
    async with running(max_num_seqs=500, itl_ms=5) as simulator:
        answers = await asyncio.gather(*(send(simulator, chat(f"number {i}", max_tokens=20)) for i in range(200)))
        assert all(answer.done and answer.finish_reason == "length" for answer in answers)
        assert simulator.stats.finished == 200
        assert simulator.stats.tokens == 4000
