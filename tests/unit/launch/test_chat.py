"""`headrace chat` against an edge that is scripted byte by byte."""

from __future__ import annotations

import io
import json
import socket
import threading
from collections.abc import Callable, Iterator

import pytest

from launch.cli import main

MODELS = json.dumps({"data": [{"id": "sim-chat"}]})
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nx-headrace-backend: vllm-1\r\n\r\n"


def chunk(text: str | None = None, finish: str | None = None, **delta: str) -> bytes:
    choice = {"index": 0, "delta": {**delta, **({"content": text} if text else {})}, "finish_reason": finish}
    return b"data: " + json.dumps({"choices": [choice]}).encode() + b"\n\n"


USAGE = b'data: {"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":2}}\n\n'
DONE = b"data: [DONE]\n\n"
GOOD = (
    HEAD + b": ping\n\n" + chunk(role="assistant") + chunk("Hel") + chunk("lo") + chunk(finish="stop") + USAGE + DONE
)
Edge = Callable[[bytes], str]


@pytest.fixture
def requests() -> list[bytes]:
    return []


@pytest.fixture
def edge(requests: list[bytes]) -> Iterator[Edge]:
    """Answer every connection once: the model list, or the scripted bytes."""
    listening = socket.create_server(("127.0.0.1", 0))
    script = [b""]

    def serve() -> None:
        while True:
            try:
                connection, _ = listening.accept()
            except OSError:
                return
            with connection, connection.makefile("rb") as lines:
                head = b"".join(iter(lines.readline, b"\r\n"))
                length = next((int(x[15:]) for x in head.lower().splitlines() if x.startswith(b"content-length")), 0)
                requests.append(head + lines.read(length))
                listed = b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n" + MODELS.encode()
                connection.sendall(listed if head.startswith(b"GET /v1/models") else script[0])

    thread = threading.Thread(target=serve)
    thread.start()

    def answers(data: bytes) -> str:
        script[0] = data
        return f"http://127.0.0.1:{listening.getsockname()[1]}"

    yield answers
    listening.shutdown(socket.SHUT_RDWR)
    listening.close()
    thread.join()


def chat(capsys: pytest.CaptureFixture[str], *argv: str) -> tuple[int, str, str]:
    status = main(["chat", *argv])
    out, err = capsys.readouterr()
    return status, out, err


def test_an_answer_is_streamed_and_measured(edge: Edge, requests, capsys):
    status, out, err = chat(capsys, "Hi", "--url", edge(GOOD))
    assert (status, out) == (0, "Hello\n")
    assert err.count("\n") == 1
    assert err.startswith("first token ")
    assert "2 tokens" in err
    assert err.endswith("vllm-1\n")
    asked = json.loads(requests[-1].split(b"\r\n")[-1].lstrip())
    assert asked["model"] == "sim-chat"
    assert asked["stream_options"] == {"include_usage": True}
    assert asked["messages"] == [{"role": "user", "content": "Hi"}]


def test_json_is_one_object(edge: Edge, capsys):
    status, out, err = chat(capsys, "Hi", "--json", "--model", "m", "--url", edge(GOOD) + "/v1/")
    assert (status, err) == (0, "")
    found = json.loads(out)
    assert (found["text"], found["tokens"], found["model"]) == ("Hello", 2, "m")
    assert (found["backend"], found["finish_reason"]) == ("vllm-1", "stop")
    assert found["ttft_ms"] >= 0


def test_the_prompt_may_come_from_standard_input_and_the_key_from_the_environment(
    edge: Edge, requests, capsys, monkeypatch
):
    monkeypatch.setattr("sys.stdin", io.StringIO("from a pipe"))
    monkeypatch.setenv("HEADRACE_API_KEY", "hr-1")
    assert chat(capsys, "-", "--url", edge(GOOD))[0] == 0
    assert b"from a pipe" in requests[-1]
    assert all(b"authorization: bearer hr-1" in request.lower() for request in requests)


def test_thinking_is_kept_out_of_a_file(edge: Edge, capsys):
    thought = chunk(reasoning_content="hmm") + chunk("42") + chunk(finish="stop") + DONE
    status, out, err = chat(capsys, "Hi", "--url", edge(HEAD + thought))
    assert (status, out) == (0, "42\n")
    assert "2 tokens" in err


ERROR = b'data: {"error":{"message":"the engine died","type":"server_error","param":null,"code":"stream_broken"}}\n\n'


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (HEAD + chunk("Hel") + ERROR + DONE, "the stream failed (stream_broken): the engine died"),
        (HEAD + chunk("Hel"), "the stream broke off; the answer is not complete"),
        (HEAD + chunk("Hel") + DONE, "without a finish_reason"),
        (HEAD + b"data: {oops\n\n", "not JSON"),
        (
            b'HTTP/1.1 429 Slow\r\n\r\n{"error":{"message":"full","code":"saturated"}}',
            "refused with 429 (saturated): full",
        ),
        (b"HTTP/1.1 502 Bad\r\ncontent-length: 4\r\n\r\noops", "refused with 502: oops"),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\ndata:", "the connection broke"),
    ],
)
def test_what_is_not_complete_is_one(edge: Edge, capsys, answer, words):
    url = edge(answer)
    status, _, err = chat(capsys, "Hi", "--url", url)
    assert status == 1
    assert words in err
    status, out, err = chat(capsys, "Hi", "--json", "--url", url)
    assert (status, err) == (1, "")
    assert words in json.loads(out)["error"]["message"]


def test_nobody_there_is_one(capsys):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    status, out, err = chat(capsys, "Hi", "--url", f"http://127.0.0.1:{port}")
    assert (status, out) == (1, "")
    assert "cannot connect" in err
