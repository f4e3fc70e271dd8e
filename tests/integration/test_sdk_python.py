"""openai-python, sync and async, against the gateway: it hears there what it hears from the engine directly."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from threading import Timer
from time import monotonic
from typing import Any, Literal

import openai
import pytest

from streamkit.wire.keys import new_key
from tests.support.exchange import stream
from tests.support.keys import with_keys
from tests.support.processes import until
from tests.support.rig import Rig, ms, rig
from tests.support.sdk import Sdk

CHAT = "chat.completions.create"
BOUND = 4
MESSAGES = [{"role": "user", "content": "What turns the wheel?"}]
TOOL = {
    "type": "function",
    "function": {
        "name": "set_gate",
        "description": "Open or close the gate.",
        "parameters": {
            "type": "object",
            "properties": {"gate": {"enum": ["north", "south"]}, "open": {"type": "boolean"}},
            "required": ["gate", "open"],
            "additionalProperties": False,
        },
    },
}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    edge = {"queue_ms": 0, "commit_after_ms": ms(150), "heartbeat_ms": ms(80), "max_event_bytes": 65_536}
    with rig(tmp_path_factory.mktemp("sdk"), {"alpha": {}}, edge=edge, backends={"max_inflight": BOUND}) as ours:
        yield ours


@pytest.fixture(params=["sync", "async"])
def flavour(request: pytest.FixtureRequest) -> Literal["sync", "async"]:
    found: Literal["sync", "async"] = request.param
    return found


@pytest.fixture
def sdk(site: Rig, flavour: Literal["sync", "async"]) -> Iterator[Sdk]:
    with Sdk(flavour, site.url) as ours:
        yield ours
    site.wait_quiet()
    site.heal()


@pytest.fixture
def direct(site: Rig, flavour: Literal["sync", "async"]) -> Iterator[Sdk]:
    with Sdk(flavour, site.url_of("alpha")) as ours:
        yield ours


def chat(sim: str = "", **members: Any) -> dict[str, Any]:
    return {"model": "tiny", "messages": MESSAGES, "extra_headers": {"X-Sim": sim} if sim else {}, **members}


def test_a_chat(sdk: Sdk, direct: Sdk) -> None:
    ours, theirs = sdk.call(CHAT, **chat("tokens=40")), direct.call(CHAT, **chat("tokens=40"))
    assert ours.choices[0].message.content == theirs.choices[0].message.content
    assert ours.choices[0].finish_reason == theirs.choices[0].finish_reason
    assert ours.usage == theirs.usage
    assert ours.usage.completion_tokens > 0


def test_a_streamed_chat(sdk: Sdk, direct: Sdk) -> None:
    members = chat("tokens=40")
    ours, theirs, whole = sdk.stream(CHAT, **members), direct.stream(CHAT, **members), direct.call(CHAT, **members)
    assert ours.text == theirs.text == whole.choices[0].message.content
    assert len(ours.chunks) == len(theirs.chunks)
    assert ours.finish_reasons == theirs.finish_reasons == ["stop"]
    assert ours.chunks[0].choices[0].delta.role == "assistant"
    assert len({(chunk.id, chunk.created) for chunk in ours.chunks}) == 1
    assert ours.usage == [], "nobody asked for it"


def test_usage_comes_last_when_asked_for(sdk: Sdk, direct: Sdk) -> None:
    members = chat("tokens=9", stream_options={"include_usage": True})
    ours, theirs = sdk.stream(CHAT, **members), direct.stream(CHAT, **members)
    assert ours.usage == theirs.usage
    assert ours.usage[0].completion_tokens == 9
    assert ours.chunks[-1].usage is not None
    assert ours.chunks[-1].choices == []


@pytest.mark.parametrize(
    "choice", ["required", {"type": "function", "function": {"name": "set_gate"}}], ids=["required", "named"]
)
def test_tool_calls(sdk: Sdk, direct: Sdk, choice: Any) -> None:
    members = chat(tools=[TOOL], tool_choice=choice)

    def call(heard: Any) -> tuple[str, str, int]:
        pieces = [piece for chunk in heard.chunks for one in chunk.choices for piece in one.delta.tool_calls or ()]
        name = "".join(piece.function.name or "" for piece in pieces)
        return name, "".join(piece.function.arguments or "" for piece in pieces), len(pieces)

    ours, theirs = sdk.stream(CHAT, **members), direct.stream(CHAT, **members)
    assert call(ours) == call(theirs)
    assert ours.finish_reasons == theirs.finish_reasons
    name, arguments, pieces = call(ours)
    assert name == "set_gate"
    assert pieces > 2, "the arguments come in pieces"
    (whole,) = sdk.call(CHAT, **members).choices[0].message.tool_calls
    assert (whole.function.name, whole.function.arguments) == (name, arguments)


def test_logprobs(sdk: Sdk, direct: Sdk) -> None:
    members = chat("tokens=6", logprobs=True, top_logprobs=2)

    def found(heard: Any) -> list[Any]:
        return [
            one
            for chunk in heard.chunks
            for choice in chunk.choices
            if choice.logprobs
            for one in choice.logprobs.content
        ]

    ours = found(sdk.stream(CHAT, **members))
    assert ours == found(direct.stream(CHAT, **members))
    assert len(ours) == 6
    assert all(len(one.top_logprobs) == 2 for one in ours)
    assert sdk.call(CHAT, **members).choices[0].logprobs.content == ours


def test_two_choices(sdk: Sdk, direct: Sdk) -> None:
    def texts(heard: Any) -> dict[int, str]:
        said: dict[int, str] = {}
        for choice in (choice for chunk in heard.chunks for choice in chunk.choices):
            said[choice.index] = said.get(choice.index, "") + (choice.delta.content or "")
        return said

    ours = sdk.stream(CHAT, **chat("tokens=7", n=2))
    assert texts(ours) == texts(direct.stream(CHAT, **chat("tokens=7", n=2)))
    assert set(texts(ours)) == {0, 1}
    assert ours.finish_reasons == ["stop", "stop"]
    whole = sdk.call(CHAT, **chat("tokens=7", n=2))
    assert {choice.index: choice.message.content for choice in whole.choices} == texts(ours)


def test_a_stop_sequence(sdk: Sdk, direct: Sdk) -> None:
    free = direct.call(CHAT, **chat("tokens=30")).choices[0].message.content
    word = free.split()[3]
    ours = sdk.stream(CHAT, **chat("tokens=30", stop=[word]))
    assert ours.text == free[: free.index(word)]
    assert ours.finish_reasons == ["stop"]


@pytest.mark.parametrize("streaming", [True, False], ids=["stream", "json"])
def test_completions(sdk: Sdk, direct: Sdk, streaming: bool) -> None:
    members: dict[str, Any] = {"model": "tiny", "prompt": "Water", "max_tokens": 12}
    if streaming:
        ours, theirs = sdk.stream("completions.create", **members), direct.stream("completions.create", **members)
        assert ours.text == theirs.text
        assert ours.finish_reasons == theirs.finish_reasons == ["length"]
    else:
        ours, theirs = sdk.call("completions.create", **members), direct.call("completions.create", **members)
        assert ours.choices == theirs.choices
        assert ours.usage == theirs.usage


def test_embeddings(sdk: Sdk, direct: Sdk) -> None:
    """The library asks for base64 and decodes it."""
    members = {"model": "tiny", "input": ["one text", "another"]}
    ours, theirs = sdk.call("embeddings.create", **members), direct.call("embeddings.create", **members)
    assert [row.embedding for row in ours.data] == [row.embedding for row in theirs.data]
    assert len(ours.data[0].embedding) == 128
    assert ours.usage == theirs.usage


def test_models(sdk: Sdk) -> None:
    assert sdk.models() == ["tiny"]
    assert sdk.call("models.retrieve", "tiny").id == "tiny"
    with pytest.raises(openai.NotFoundError) as found:
        sdk.call("models.retrieve", "nobody-has-it")
    assert found.value.code == "model_not_found"


@pytest.mark.parametrize("run", [Sdk.call, Sdk.stream], ids=["json", "stream"])
@pytest.mark.parametrize(
    ("members", "kind", "code"),
    [
        ({"model": "nobody-has-it"}, openai.NotFoundError, "model_not_found"),
        ({"n": 0}, openai.BadRequestError, "invalid_request"),
        ({"temperature": -1}, openai.BadRequestError, "400"),
        ({"extra_headers": {"X-Sim": "status=422"}}, openai.UnprocessableEntityError, "422"),
        ({"extra_headers": {"X-Sim": "status=429"}}, openai.RateLimitError, "saturated"),
        ({"extra_headers": {"X-Sim": "status=500"}}, openai.InternalServerError, "backend_error"),
        ({"extra_headers": {"X-Headrace-Priority": "0"}}, openai.BadRequestError, "invalid_request"),
    ],
    ids=["404", "400-ours", "400-theirs", "422", "429", "502", "400-header"],
)
def test_errors_before_anything_was_sent(
    sdk: Sdk, run: Callable[..., Any], members: dict[str, Any], kind: type[openai.APIStatusError], code: str
) -> None:
    with pytest.raises(kind) as found:
        run(sdk, CHAT, **chat(**members))
    assert found.value.code == code
    assert found.value.message
    assert found.value.request_id


@pytest.mark.parametrize("sim", ["die_after=3", "end_after=3", "error_after=3", "no_finish=true", "no_done=true"])
def test_a_stream_that_fails_raises(sdk: Sdk, sim: str) -> None:
    heard = sdk.stream(CHAT, **chat(f"tokens=6,{sim}"))
    assert type(heard.error) is openai.APIError
    assert heard.error.message
    assert heard.text
    assert heard.finish_reasons == (["stop"] if sim == "no_done=true" else [])


with_and_without_ids = pytest.mark.parametrize("ids", [False, True], ids=["no-ids", "ids"])


def resumable(members: dict[str, Any], ids: bool) -> dict[str, Any]:
    more = {"X-Headrace-Resume": "1"} if ids else {}
    return {**members, "extra_headers": {**members.get("extra_headers", {}), **more}}


@with_and_without_ids
@pytest.mark.parametrize("beats", [False, True], ids=["quick", "heartbeats"])
def test_ids_and_heartbeats_disturb_nothing(sdk: Sdk, direct: Sdk, site: Rig, ids: bool, beats: bool) -> None:
    """The trap of `id:` lines beside comments with a blank line (facts: streaming-conventions, 5.2)."""
    before = site.metric("headrace_heartbeats_total")
    sim = f"tokens=4,ttft_ms={ms(500)},itl_ms={ms(150)}" if beats else "tokens=4"
    heard = sdk.stream(CHAT, **resumable(chat(sim), ids))
    assert site.metric("headrace_heartbeats_total") >= before + 3 * beats
    assert heard.error is None
    whole = direct.stream(CHAT, **chat("tokens=4"))
    assert (heard.text, len(heard.chunks)) == (whole.text, len(whole.chunks))
    assert heard.finish_reasons == ["stop"]


@with_and_without_ids
def test_a_failure_after_heartbeats_raises(sdk: Sdk, ids: bool) -> None:
    """200 is out, so the failure is in-band: it must raise all the same, with no chunk before it."""
    with pytest.raises(openai.APIError) as found:
        sdk.stream(CHAT, **resumable(chat(f"ttft_ms={ms(400)},error_after=0"), ids))
    assert "alpha" in found.value.message


def test_a_failure_of_a_stream_with_ids_raises(sdk: Sdk) -> None:
    heard = sdk.stream(CHAT, **resumable(chat(f"tokens=6,itl_ms={ms(150)},die_after=3"), True))
    assert type(heard.error) is openai.APIError
    assert heard.text


def test_a_reader_that_leaves_frees_the_engine(sdk: Sdk, site: Rig) -> None:
    heard = sdk.stream(CHAT, leave_after=3, **chat("tokens=20000,itl_ms=5"))
    assert len(heard.chunks) == 3
    site.wait_quiet()


def test_a_429_is_retried_when_the_gateway_says(site: Rig, flavour: Literal["sync", "async"]) -> None:
    with contextlib.ExitStack() as stack:
        occupants = [stack.enter_context(stream(site.url, "tokens=20000,itl_ms=10")) for _ in range(BOUND)]
        for occupant in occupants:
            occupant.head()
        with Sdk(flavour, site.url) as once, pytest.raises(openai.RateLimitError) as found:
            once.call(CHAT, **chat("tokens=2"))
        headers = found.value.response.headers
        assert headers["x-headrace-reason"] == "rejected-saturated"
        wait_s = int(headers["retry-after-ms"]) / 1000
        assert wait_s >= 1
        rejected = site.metric("headrace_streams_total", code="saturated")
        with Sdk(flavour, site.url, max_retries=1) as patient:

            def free_one() -> None:
                occupants[0].close()

            began = monotonic()
            stack.enter_context(after(0.3, free_one))
            assert patient.call(CHAT, **chat("tokens=2")).choices[0].message.content
            assert monotonic() - began >= wait_s, "the SDK waited as long as it was told"
        assert site.metric("headrace_streams_total", code="saturated") == rejected + 1
    site.wait_quiet()


@contextlib.contextmanager
def after(seconds: float, action: Callable[[], None]) -> Iterator[None]:
    """Do something a little later."""
    timer = Timer(seconds, action)
    timer.start()
    try:
        yield
    finally:
        timer.join()


@pytest.mark.parametrize(
    ("members", "status"),
    [({"model": "nobody-has-it"}, 404), ({"extra_headers": {"X-Sim": "bytes=300000"}, "stream": True}, 502)],
    ids=["404", "502"],
)
def test_what_is_useless_to_retry_is_asked_once(
    site: Rig, flavour: Literal["sync", "async"], members: dict[str, Any], status: int
) -> None:
    asked = site.started()["alpha"]
    with Sdk(flavour, site.url, max_retries=2) as ours, pytest.raises(openai.APIStatusError) as found:
        ours.call(CHAT, **chat(**members))
    assert found.value.status_code == status
    assert found.value.response.headers["x-should-retry"] == "false"
    assert site.started()["alpha"] - asked == (1 if status == 502 else 0)
    site.wait_quiet()


def test_keys(tmp_path_factory: pytest.TempPathFactory, flavour: Literal["sync", "async"]) -> None:
    key, other = new_key(), new_key()
    with (
        rig(tmp_path_factory.mktemp("keys"), {"alpha": {}}, without=("edge",)) as site,
        with_keys(site.url_of("control"), [key]) as control_url,
    ):
        site.start_edge(control_url=control_url)
        with Sdk(flavour, site.url, api_key=key) as welcome:
            until(lambda: welcome.models() == ["tiny"])
            assert welcome.call(CHAT, **chat("tokens=2")).choices
            assert welcome.stream(CHAT, **chat("tokens=2")).finish_reasons == ["stop"]
        with Sdk(flavour, site.url, api_key=other) as stranger:
            for refused in (
                lambda: stranger.call(CHAT, **chat()),
                lambda: stranger.stream(CHAT, **chat()),
                stranger.models,
            ):
                with pytest.raises(openai.AuthenticationError) as found:
                    refused()
                assert found.value.code == "unauthorized"
                assert found.value.type == "authentication_error"
        assert key not in site.services["edge"].output()
        assert other not in site.services["edge"].output()
        assert {line["tenant"] for line in site.lines()} == {"team"}
        site.services["edge"].stop()
