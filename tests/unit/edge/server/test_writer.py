from __future__ import annotations

import asyncio
import socket

import pytest

from edge.server.writer import Writer
from tests.support.inprocess import until

pytestmark = pytest.mark.anyio


class Server(asyncio.Protocol):
    """Gives its one connection a writer, as the HTTP protocol does."""

    def __init__(self, high_bytes: int, *, chunked: bool) -> None:
        self._high_bytes = high_bytes
        self._chunked = chunked
        self.writer: Writer | None = None
        self.paused = False

    def connection_made(self, transport):
        transport.set_write_buffer_limits(high=self._high_bytes, low=self._high_bytes // 4)
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        self.writer = Writer(transport, chunked=self._chunked)

    def pause_writing(self):
        self.writer.pause()

    def resume_writing(self):
        self.writer.resume()

    def connection_lost(self, exc):
        self.writer.disconnected()


class Pair:
    """A writer and the socket that reads what it writes."""

    def __init__(self, *, high_bytes: int = 8192, chunked: bool = True) -> None:
        self._protocol = Server(high_bytes, chunked=chunked)
        self.client = socket.socket()
        self.client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self.client.setblocking(False)
        self.told: list[str] = []

    async def __aenter__(self):
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: self._protocol, "127.0.0.1", 0)
        await loop.sock_connect(self.client, self._server.sockets[0].getsockname())
        await until(lambda: self._protocol.writer is not None)
        self.writer = self._protocol.writer
        self.writer.on_pause = lambda: self.told.append("pause")
        self.writer.on_resume = lambda: self.told.append("resume")
        self.writer.on_disconnect = lambda: self.told.append("disconnect")
        return self

    async def __aexit__(self, *_):
        self._server.close()
        self.client.close()
        self.writer.abort()
        await until(lambda: self.writer.gone)

    async def read(self, size: int) -> bytes:
        data = b""
        async with asyncio.timeout(5):
            while len(data) < size:
                piece = await asyncio.get_running_loop().sock_recv(self.client, min(size - len(data), 65536))
                if not piece:
                    break
                data += piece
        return data


async def test_a_write_is_one_chunk_and_true_while_the_reader_keeps_up():
    async with Pair() as pair:
        assert pair.writer.write(b"data: 1\n\n") is True
        assert await pair.read(14) == b"9\r\ndata: 1\n\n\r\n"
        assert pair.writer.queued_bytes == 0
        assert pair.told == []


async def test_without_chunks_bytes_leave_as_they_are():
    async with Pair(chunked=False) as pair:
        assert pair.writer.write(b"data: 1\n\n") is True
        assert await pair.read(9) == b"data: 1\n\n"


async def test_nothing_to_write_is_no_chunk_for_an_empty_one_would_end_the_body():
    async with Pair() as pair:
        assert pair.writer.write(b"") is True
        pair.writer.write(b"x")
        assert await pair.read(6) == b"1\r\nx\r\n"


async def test_over_the_high_mark_a_write_is_kept_and_answered_false_until_the_low_mark():
    async with Pair(high_bytes=8192) as pair:
        written = 0
        while pair.writer.write(b"x" * 1000):
            written += 1
        assert pair.told == ["pause"]
        assert pair.writer.queued_bytes > 8192
        assert pair.writer.write(b"x" * 1000) is False, "it is kept all the same"
        size = (written + 2) * (1000 + len(b"3e8\r\n\r\n"))
        assert len(await pair.read(size)) == size
        await until(lambda: pair.told == ["pause", "resume"])
        assert pair.writer.write(b"x") is True


async def test_unsent_bytes_count_what_the_clients_kernel_has_not_taken():
    async with Pair(high_bytes=8192) as pair:
        assert pair.writer.unsent_bytes == 0
        while pair.writer.write(b"x" * 1000):
            pass
        assert pair.writer.unsent_bytes > pair.writer.queued_bytes > 0
        before = pair.writer.unsent_bytes
        await pair.read(before // 2)
        await until(lambda: pair.writer.unsent_bytes < before)


async def test_a_writer_that_starts_over_the_high_mark_says_so():
    async with Pair() as pair:
        writer = Writer(pair.writer._transport, chunked=True, paused=True)
        assert writer.write(b"x") is False
        writer.resume()
        assert writer.write(b"x") is True


async def test_a_disconnect_is_told_once_and_kept_for_who_asks_later():
    async with Pair() as pair:
        pair.client.close()
        await until(lambda: pair.writer.gone)
        assert pair.told == ["disconnect"]
        assert pair.writer.write(b"late") is True, "nobody is there to be slow"
        assert (pair.writer.queued_bytes, pair.writer.unsent_bytes) == (0, 0)
        pair.writer.abort()


async def test_a_disconnect_before_anybody_listens_is_seen_by_gone():
    async with Pair() as pair:
        pair.writer.on_disconnect = None
        pair.client.close()
        await until(lambda: pair.writer.gone)
        assert pair.told == []


async def test_abort_is_a_reset_and_drops_what_is_unsent():
    async with Pair() as pair:
        while pair.writer.write(b"x" * 1000):
            pass
        pair.writer.abort()
        await until(lambda: pair.writer.gone)
        assert pair.told == ["pause", "disconnect"]
        with pytest.raises(ConnectionResetError):
            await pair.read(10**6)


async def test_after_the_end_of_its_response_a_writer_tells_nobody_anything():
    async with Pair() as pair:
        writer = Writer(pair.writer._transport, chunked=True)
        writer.on_pause = writer.on_resume = writer.on_disconnect = lambda: pair.told.append("late")
        writer.close()
        writer.pause()
        writer.resume()
        assert writer.write(b"the next response's bytes") is True
        writer.abort()
        assert pair.told == []
        pair.writer.write(b"x")
        assert await pair.read(6) == b"1\r\nx\r\n", "nothing of it left"
