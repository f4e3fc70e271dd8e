"""A whole request that another instance of the edge answers with a whole answer, both bounded."""

from __future__ import annotations

import asyncio
from typing import Final

import msgspec

from edge.sources.connection import Connection, Head
from edge.sources.pool import ConnectError, Pool
from edge.streams.contracts import Reply
from streamkit.wire.errors import Code, HeadraceError
from streamkit.wire.unreadable import UNREADABLE

__all__ = ["CONTENT_TYPE", "packed", "run_errand"]

#: An answer with its status and headers, packed: the listener for peers answers errands with it.
CONTENT_TYPE: Final = b"application/vnd.headrace.answer"
_ANSWER_BYTES: Final = 1024 * 1024


class _Packed(msgspec.Struct, frozen=True, array_like=True):
    status: int
    content_type: bytes
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes


def packed(reply: Reply) -> Reply:
    """Return an answer in the form that goes to a peer."""
    inner = _Packed(reply.status, reply.content_type, reply.headers, reply.body)
    return Reply(status=200, body=msgspec.msgpack.encode(inner), content_type=CONTENT_TYPE)


class _Errand:
    """Takes one answer."""

    def __init__(self) -> None:
        self.done: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._body = bytearray()
        self._fit = False

    def on_head(self, head: Head) -> None:
        self._fit = head.status == 200 and head.content_type == CONTENT_TYPE

    def on_body(self, data: bytes) -> None:
        self._body += data
        if len(self._body) > _ANSWER_BYTES:
            self._fail("its answer is too large")

    def on_complete(self) -> None:
        if not self._fit:
            self._fail("it answered with what nobody can read")
        elif not self.done.done():
            self.done.set_result(bytes(self._body))

    def on_broken(self, reason: str) -> None:
        self._fail(reason)

    def _fail(self, reason: str) -> None:
        if not self.done.done():
            text = f"The edge that has this avatar session did not answer: {reason}. Try again shortly."
            self.done.set_exception(HeadraceError(Code.BACKEND_ERROR, text))


async def run_errand(pool: Pool, head: bytes, body: bytes, *, timeout_s: float) -> Reply:
    """Send a request to a peer and return its answer.

    Args:
        pool: connections to it.
        head: request line and headers, the body's length among them, and the blank line.
        body: of the request.
        timeout_s: the answer must be whole within it.

    Raises:
        HeadraceError: BACKEND_ERROR, BACKEND_TIMEOUT.
    """
    connection: Connection | None = None
    errand = _Errand()
    try:
        async with asyncio.timeout(timeout_s):
            # A new one: an idle one may be closed by now, and this request must not be sent twice.
            connection = await pool.connect()
            connection.begin(errand, head, body)
            answer = msgspec.msgpack.decode(await errand.done, type=_Packed)
    except ConnectError as exc:
        text = f"The edge that has this avatar session cannot be reached: {exc}. Try again shortly."
        raise HeadraceError(Code.BACKEND_ERROR, text) from None
    except TimeoutError:
        text = "The edge that has this avatar session did not answer in time. Try again shortly."
        raise HeadraceError(Code.BACKEND_TIMEOUT, text) from None
    except UNREADABLE:
        text = "The edge that has this avatar session answered with what nobody can read."
        raise HeadraceError(Code.BACKEND_ERROR, text) from None
    finally:
        if connection is not None and not errand.done.done():
            errand.done.cancel()
            connection.abort()
    return Reply(status=answer.status, body=answer.body, content_type=answer.content_type, headers=answer.headers)
