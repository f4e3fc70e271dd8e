"""The protocol class alone, fed by hand; real sockets are in test_engine.py."""

from __future__ import annotations

import asyncio

import pytest

from edge.sources.connection import MAX_HEAD_BYTES, READ_BYTES, Connection, Head


class Transport(asyncio.Transport):
    """Remembers what is written and how reading stands."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[bytes] = []
        self.reading = True
        self.end = ""

    def write(self, data: bytes) -> None:  # type: ignore[override]
        self.written.append(bytes(data))

    def is_closing(self) -> bool:
        return bool(self.end)

    def close(self) -> None:
        self.end = self.end or "close"

    def abort(self) -> None:
        self.end = "abort"

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True


class Owner:
    def __init__(self) -> None:
        self.calls: list[str] = []

    def released(self, connection: Connection) -> None:
        self.calls.append("released")

    def lost(self, connection: Connection) -> None:
        self.calls.append("lost")


class Taker:
    def __init__(self) -> None:
        self.heads: list[Head] = []
        self.bodies: list[bytes] = []
        self.end: str | None = None

    def on_head(self, head: Head) -> None:
        self.heads.append(head)

    def on_body(self, data: bytes) -> None:
        self.bodies.append(data)

    def on_complete(self) -> None:
        assert self.end is None
        self.end = "complete"

    def on_broken(self, reason: str) -> None:
        assert self.end is None
        self.end = reason


class Rig:
    def __init__(self) -> None:
        self.owner, self.transport, self.taker = Owner(), Transport(), Taker()
        self.connection = Connection(self.owner, memoryview(bytearray(READ_BYTES)))
        self.connection.connection_made(self.transport)
        self.connection.begin(self.taker, b"HEAD", b"BODY")

    def read(self, data: bytes) -> None:
        """One read of the loop."""
        buffer = self.connection.get_buffer(-1)
        buffer[: len(data)] = data
        self.connection.buffer_updated(len(data))


def test_a_small_request_is_one_write_and_a_large_body_is_not_copied_behind_its_head() -> None:
    rig = Rig()
    assert rig.transport.written == [b"HEADBODY"]
    body = b"x" * (READ_BYTES + 1)
    rig.connection.begin(Taker(), b"HEAD", body)
    assert rig.transport.written[1:] == [b"HEAD", body]
    assert rig.connection.used == 2


def test_what_one_read_brings_is_handed_over_at_once() -> None:
    rig = Rig()
    rig.read(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n2\r\nbc\r\n3\r\nd")
    assert rig.taker.bodies == [b"abcd"]
    rig.read(b"ef\r\n0\r\n\r\n")
    assert rig.taker.bodies == [b"abcd", b"ef"]
    assert rig.taker.end == "complete"
    assert rig.owner.calls == ["released"]


@pytest.mark.parametrize(
    ("head", "keeps", "delimited"),
    [
        (b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n", True, False),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n", True, False),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\nconnection: close\r\n\r\n", False, False),
        (b"HTTP/1.0 200 OK\r\ncontent-length: 5\r\n\r\n", False, False),
        (b"HTTP/1.0 200 OK\r\ncontent-length: 5\r\nconnection: keep-alive\r\n\r\n", True, False),
        (b"HTTP/1.1 200 OK\r\n\r\n", False, True),
    ],
)
def test_heads(head: bytes, keeps: bool, delimited: bool) -> None:
    rig = Rig()
    rig.read(head)
    (seen,) = rig.taker.heads
    assert (seen.status, seen.keep_alive, seen.close_delimited) == (200, keeps, delimited)


def test_a_connection_that_may_not_be_kept_is_closed_at_the_end() -> None:
    rig = Rig()
    rig.read(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
    assert (rig.taker.end, rig.transport.end, rig.owner.calls) == ("complete", "close", [])


def test_a_body_until_close_is_whole_only_after_a_clean_close() -> None:
    for exc, whole in ((None, True), (ConnectionResetError("reset"), False)):
        rig = Rig()
        rig.read(b"HTTP/1.1 200 OK\r\n\r\nabc")
        assert rig.taker.end is None
        rig.connection.connection_lost(exc)
        assert (rig.taker.end == "complete") is whole
        assert rig.owner.calls == ["lost"]


def test_an_interim_answer_is_not_the_answer() -> None:
    rig = Rig()
    rig.read(b"HTTP/1.1 100 Continue\r\n\r\n")
    assert (rig.taker.heads, rig.taker.end) == ([], None)
    assert rig.connection.answered
    rig.read(b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\na")
    assert [head.status for head in rig.taker.heads] == [200]
    assert rig.taker.end == "complete"


def test_headers_without_end_break_the_exchange_at_their_bound() -> None:
    rig = Rig()
    rig.read(b"HTTP/1.1 200 OK\r\nx: ")
    for _ in range(MAX_HEAD_BYTES // READ_BYTES):
        assert rig.taker.end is None
        rig.read(b"y" * READ_BYTES)
    assert "larger than 65536 bytes" in (rig.taker.end or "")
    assert rig.transport.end == "abort"


def test_a_long_body_is_not_counted_as_headers() -> None:
    rig = Rig()
    rig.read(b"HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n")
    for _ in range(1 + MAX_HEAD_BYTES // READ_BYTES):
        rig.read(b"y" * READ_BYTES)
    assert rig.taker.end is None


def test_bytes_that_nobody_asked_for_end_the_connection() -> None:
    rig = Rig()
    rig.read(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
    rig.read(b"H")
    assert rig.transport.end == "abort"


def test_a_second_answer_in_the_same_read_is_dropped_with_the_connection() -> None:
    rig = Rig()
    rig.read(b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\naHTTP/1.1 500 No\r\ncontent-length: 1\r\n\r\nb")
    assert [head.status for head in rig.taker.heads] == [200]
    assert (rig.taker.bodies, rig.taker.end) == ([b"a"], "complete")
    assert (rig.transport.end, rig.owner.calls) == ("close", [])


def test_reading_is_on_again_when_the_connection_is_released() -> None:
    rig = Rig()
    rig.connection.pause()
    assert not rig.transport.reading
    rig.read(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
    assert rig.transport.reading


def test_whether_an_answer_had_begun_is_known_for_each_exchange() -> None:
    rig = Rig()
    assert not rig.connection.answered
    rig.read(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
    assert rig.connection.answered
    rig.connection.begin(Taker(), b"", b"")
    assert not rig.connection.answered


def test_a_lost_connection_breaks_its_exchange_and_begins_no_other() -> None:
    rig = Rig()
    rig.connection.connection_lost(None)
    assert rig.taker.end is not None
    assert "closed the connection" in rig.taker.end
    assert rig.connection.closing
    late = Taker()
    rig.connection.begin(late, b"", b"")
    assert late.end == "the connection is closed"
    for call in (rig.connection.pause, rig.connection.resume, rig.connection.abort, rig.connection.close):
        call()
