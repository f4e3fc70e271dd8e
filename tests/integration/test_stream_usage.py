"""Tokens are counted by the engine's own usage, whether the client asked for it or not, and if it left first."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.exchange import Answer, Exchange, ask, chat, stream
from tests.support.processes import until
from tests.support.rig import Rig, ms, rig

_NUMBERS = itertools.count(1)
GRACE_MS = ms(250)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    edge = {"finish_grace_ms": GRACE_MS}
    with rig(tmp_path_factory.mktemp("usage"), {"alpha": {}}, edge=edge) as ours:
        yield ours


def counted(site: Rig) -> dict[str, float]:
    return {
        kind: site.metric(
            "gen_ai_client_token_usage_sum", gen_ai_request_model="tiny", backend="alpha", gen_ai_token_type=kind
        )
        for kind in ("input", "output")
    }


def assert_counted(site: Rig, before: dict[str, float], request_id: str, *, completion: int) -> dict[str, Any]:
    """The counters rose by what the canonical line says, and that says `completion` tokens."""
    line = site.line(request_id)
    assert line["completion_tokens"] == completion
    assert line["prompt_tokens"] > 0
    now = counted(site)
    assert now["output"] - before["output"] == completion
    assert now["input"] - before["input"] == line["prompt_tokens"]
    return line


def named() -> str:
    return f"usage-{next(_NUMBERS)}"


@pytest.mark.parametrize("asked", [None, {"include_usage": False}, {"include_usage": True}])
def test_of_a_stream_whether_asked_for_or_not(site: Rig, asked: dict[str, Any] | None) -> None:
    before, name = counted(site), named()
    members = {} if asked is None else {"stream_options": asked}
    with stream(site.url, "tokens=7", headers={"x-request-id": name}, **members) as client:
        answer = client.read()
    assert (b'"usage":{' in answer.body) is bool(asked and asked["include_usage"])
    line = assert_counted(site, before, name, completion=7)
    # What the client got: seven tokens, the role with the first, [DONE]; and its usage chunk.
    assert line["events"] == len(answer.data)
    assert (line["outcome"], line["stream"], line["backend"]) == ("finished", True, "alpha")
    assert 0 < line["ttft_ms"] <= line["duration_ms"]


def test_of_every_choice_together(site: Rig) -> None:
    before, name = counted(site), named()
    with stream(site.url, "tokens=5", headers={"x-request-id": name}, n=3) as client:
        assert client.read().done
    assert_counted(site, before, name, completion=15)


@pytest.mark.parametrize(
    ("path", "body", "completion"),
    [
        ("/v1/chat/completions", chat(), 6),
        ("/v1/completions", {"model": "tiny", "prompt": "Once upon"}, 6),
        ("/v1/completions", {"model": "tiny", "prompt": "Once upon", "stream": True}, 6),
    ],
    ids=["chat", "completion", "completion-stream"],
)
def test_of_other_answers(site: Rig, path: str, body: dict[str, Any], completion: int) -> None:
    before, name = counted(site), named()
    headers = {"x-request-id": name, "x-sim": f"tokens={completion}"}
    assert ask(site.url, path, body, headers=headers).status == 200
    assert_counted(site, before, name, completion=completion)


def test_of_embeddings(site: Rig) -> None:
    before, name = counted(site), named()
    body = {"model": "tiny", "input": ["one text", "and another"]}
    assert ask(site.url, "/v1/embeddings", body, headers={"x-request-id": name}).status == 200
    line = site.line(name)
    assert (line["operation"], line["prompt_tokens"]) == ("embeddings", counted(site)["input"] - before["input"])


def read_to_finish(client: Exchange) -> Answer:
    client.head()
    client.until(b'"finish_reason":"stop"')
    return client.answer


def test_of_a_client_that_leaves_right_after_the_finish_reason(site: Rig) -> None:
    """The normal behaviour of SDK users: they break at finish_reason, and what they had still counts."""
    for _ in range(20):
        before, name = counted(site), named()
        with stream(site.url, "tokens=6", headers={"x-request-id": name}) as client:
            read_to_finish(client)
        line = assert_counted(site, before, name, completion=6)
        assert line["outcome"] in ("finished", "cancelled")
    site.wait_quiet()


def test_of_a_client_that_leaves_while_the_usage_is_still_on_its_way(site: Rig) -> None:
    """The engine's last bytes come late: the finish event is out, usage follows within the grace."""
    before, name = counted(site), named()
    # In small pieces of one turn each, so that the client is gone before the usage chunk is whole.
    with stream(site.url, "tokens=3,split=1", headers={"x-request-id": name}) as client:
        read_to_finish(client)
    assert_counted(site, before, name, completion=3)


def test_an_unfinished_answer_gets_no_grace(site: Rig) -> None:
    name = named()
    with stream(site.url, "tokens=20000,itl_ms=10", headers={"x-request-id": name}) as client:
        client.head()
        client.until(b'"content"')
    until(lambda: not site.held(), ms=GRACE_MS, what="an unfinished answer gets no grace")
    line = site.line(name)
    assert line["outcome"] == "cancelled"
    assert "completion_tokens" not in line, "nobody knows"


def test_no_prompt_and_no_answer_stand_in_the_log(site: Rig) -> None:
    secret = "the-secret-word-of-this-prompt"
    with stream(site.url, "tokens=8", messages=[{"role": "user", "content": secret}]) as client:
        text = client.read().text
    assert ask(site.url, "/v1/chat/completions", b'{"model": "tiny", "messages": "' + secret.encode()).status == 400
    log = site.services["edge"].output()
    assert secret not in log
    assert text not in log
