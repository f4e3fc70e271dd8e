from __future__ import annotations

import json

import pytest

from edge.streams.contracts import Reply
from edge.transports.http import ClientGoneError, error_reply, header, read_body, send_reply
from streamkit.flow.budget import Budget
from streamkit.wire.errors import Code, HeadraceError
from tests.unit.edge.transports.asgi import Asgi, body

pytestmark = pytest.mark.anyio


async def read(asgi: Asgi, budget: Budget, limit_bytes: int = 100) -> bytearray:
    return await read_body(asgi.scope, asgi.receive, limit_bytes=limit_bytes, account=budget.account("bodies"))


def test_the_first_of_equal_headers_counts() -> None:
    scope = {"headers": [(b"a", b"1"), (b"b", b"2"), (b"b", b"3")]}
    assert (header(scope, b"b"), header(scope, b"c")) == (b"2", b"")


@pytest.mark.parametrize("pieces", [(b"",), (b"abc",), (b"a", b"", b"bc"), (b"x" * 60, b"y" * 40)])
async def test_a_body_is_read_whole_and_charged(pieces: tuple[bytes, ...]) -> None:
    budget = Budget(1000)
    found = await read(Asgi(*body(*pieces)), budget)
    assert found == b"".join(pieces)
    assert budget.used_bytes == len(found), "until the caller lets go"


async def test_a_body_that_says_it_is_too_large_is_not_even_asked_for() -> None:
    asgi = Asgi(*body(b"x" * 101), headers={"content-length": "101"})
    with pytest.raises(HeadraceError) as caught:
        await read(asgi, Budget(1000))
    assert caught.value.code is Code.TOO_LARGE
    assert "101 bytes" in caught.value.message
    assert "max_body_bytes = 100" in caught.value.message
    assert asgi.receives == 0


@pytest.mark.parametrize("declared", [None, "5", "nonsense"])
async def test_a_body_that_turns_out_too_large_is_refused_and_given_back(declared: str | None) -> None:
    budget = Budget(1000)
    asgi = Asgi(*body(b"x" * 100, b"y"), headers={"content-length": declared} if declared else {})
    with pytest.raises(HeadraceError) as caught:
        await read(asgi, budget)
    assert caught.value.code is Code.TOO_LARGE
    assert budget.used_bytes == 0


async def test_without_memory_the_request_is_shed() -> None:
    budget = Budget(50)
    with pytest.raises(HeadraceError) as caught:
        await read(Asgi(*body(b"x" * 40, b"y" * 40)), budget)
    assert caught.value.code is Code.OUT_OF_MEMORY
    assert budget.used_bytes == 0


async def test_a_client_that_leaves_in_the_middle_of_its_body() -> None:
    budget = Budget(1000)
    with pytest.raises(ClientGoneError):
        await read(Asgi(*body(b"abc", more=True), {"type": "http.disconnect"}), budget)
    assert budget.used_bytes == 0


@pytest.mark.parametrize("head", [False, True])
async def test_a_reply_is_two_messages_and_head_has_no_body(head: bool) -> None:
    asgi = Asgi()
    reply = Reply(status=201, body=b"{}", headers=((b"a", b"1"),))
    await send_reply(asgi.send, reply, [(b"b", b"2")], head=head)
    assert (asgi.status, asgi.body, asgi.complete) == (201, b"" if head else b"{}", True)
    assert asgi.headers == {b"content-type": b"application/json", b"content-length": b"2", b"a": b"1", b"b": b"2"}


def test_an_error_is_a_reply() -> None:
    error = HeadraceError(Code.SATURATED, "full")
    reply = error_reply(error)
    assert reply.status == 429
    assert json.loads(reply.body)["error"]["message"] == "full"
    assert set(reply.headers) == set(error.headers())
