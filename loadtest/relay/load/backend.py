"""The benchmark's backend: speaks vLLM's chat completions from a bare epoll loop (`python -m`, see `messages`).

One event per HTTP chunk and one chunk per send, as vLLM does. Tokens are due by the clock, not by the last send, and
how late they were is recorded. It is no simulator of an engine: the first token comes at once.
"""

from __future__ import annotations

import gc
import heapq
import json
import select
import socket
import time
from array import array
from typing import Final

from loadtest.relay.load import chunks
from loadtest.relay.load.control import STDIN, ControlPipe, HungUpError
from loadtest.relay.load.messages import AskPacing, BackendCommand, Finish, Listening, Pace, Pacing
from loadtest.relay.load.peer import Peer
from loadtest.relay.load.timer import Timer
from loadtest.relay.stats import quantiles

#: A stream whose reader is this far behind gets no new tokens until it has caught up.
BACKLOG_MAX_BYTES: Final = 1 << 20
#: Enough for any paced stream, small enough that 64 saturated ones do not fill the memory.
SNDBUF_BYTES: Final = 128 * 1024
REQUEST_MAX_BYTES: Final = 1 << 20
#: Tokens sent in a row before the sockets are looked at again.
SENDS_MAX: Final = 64
#: Tokens of one saturated stream that share a send and a stamp.
FLOOD_TOKENS: Final = 16
#: A request whose OpenAI field `user` says so is sent as fast as it is read.
FLOOD_USER: Final = "flood"
#: The fractional part of the golden ratio: multiples of it, modulo 1, fill an interval evenly.
GOLDEN: Final = 0.618033988749895
_IN: Final = select.EPOLLIN
_OUT: Final = select.EPOLLOUT


class Backend:
    """Serves on one port of the loopback until the benchmark hangs up."""

    def __init__(self) -> None:
        self._pipe: ControlPipe[BackendCommand] = ControlPipe(BackendCommand)  # type: ignore[arg-type]
        self._timer = Timer()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=4096)
        self._listener.setblocking(False)
        self._epoll = select.epoll()
        for fd in (STDIN, self._timer.fd, self._listener.fileno()):
            self._epoll.register(fd, _IN)
        self._peers: dict[int, Peer] = {}
        #: (due ns, order, peer); a peer that has ended since is passed over.
        self._due: list[tuple[int, int, Peer]] = []
        self._pace = Pace(interval_ns=50_000_000)
        self._number = 0
        self._reset_counts()

    def _reset_counts(self) -> None:
        self._streams = self._tokens = self._aborted = self._withheld = 0
        self._late = array("q")

    def run(self) -> None:
        """Serve.

        Raises:
            HungUpError: the benchmark is gone.
        """
        self._pipe.reply(Listening(port=self._listener.getsockname()[1]))
        listener = self._listener.fileno()
        while True:
            self._timer.arm(self._due[0][0] if self._due else 0)
            for fd, mask in self._epoll.poll(-1, 512):
                if peer := self._peers.get(fd):
                    if mask & _OUT:
                        self._writable(peer)
                    if mask & ~_OUT and peer.live:
                        self._readable(peer)
                elif fd == listener:
                    self._accept()
                elif fd == STDIN:
                    self._command()
            if self._due:
                self._send_due()

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except BlockingIOError:
                return
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SNDBUF_BYTES)
            peer = Peer(sock)
            self._peers[peer.fd] = peer
            self._epoll.register(peer.fd, _IN)

    def _command(self) -> None:
        for command in self._pipe.commands():
            match command:
                case Pace():
                    self._pace = command
                    self._reset_counts()
                case Finish():
                    for peer in [peer for peer in self._peers.values() if peer.pieces]:
                        self._finish(peer)
                case AskPacing():
                    self._pipe.reply(
                        Pacing(
                            streams=self._streams,
                            tokens=self._tokens,
                            aborted=self._aborted,
                            withheld=self._withheld,
                            late_us=quantiles(self._late, 1000),
                        )
                    )

    def _readable(self, peer: Peer) -> None:
        try:
            data = peer.sock.recv(65536)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._drop(peer)
            return
        peer.inbox += data
        if not peer.pieces:
            self._requests(peer)

    def _requests(self, peer: Peer) -> None:
        """Answer what has arrived whole, one request after the other."""
        while peer.live and not peer.pieces:
            end = peer.inbox.find(b"\r\n\r\n")
            if end < 0:
                if len(peer.inbox) > REQUEST_MAX_BYTES:
                    self._drop(peer)
                return
            head = peer.inbox[:end].decode("latin-1")
            length = 0
            for line in head.split("\r\n")[1:]:
                name, _, value = line.partition(":")
                if name.lower() == "content-length":
                    length = int(value)
                elif name.lower() == "transfer-encoding":
                    self._write(peer, chunks.http_json(b'{"detail":"Length Required"}', "411 Length Required"))
                    self._drop(peer)
                    return
            stop = end + 4 + length
            if len(peer.inbox) < stop:
                return
            body, peer.inbox = peer.inbox[end + 4 : stop], peer.inbox[stop:]
            method, _, rest = head.partition(" ")
            path = rest.split(" ", 1)[0].split("?", 1)[0]
            if method == "POST" and path == "/v1/chat/completions":
                self._chat(peer, json.loads(body))
            else:
                self._write(peer, chunks.GET_ANSWERS.get(path, chunks.NOT_FOUND))

    def _chat(self, peer: Peer, request: dict[str, object]) -> None:
        self._number += 1
        self._streams += 1
        if request.get("stream") is not True:
            self._write(peer, chunks.whole_answer(self._number))
            return
        limit = request.get("max_tokens") or request.get("max_completion_tokens")
        options = request.get("stream_options")
        peer.limit = limit if isinstance(limit, int) else 16
        peer.usage = isinstance(options, dict) and options.get("include_usage") is True
        peer.flood = not self._pace.interval_ns or request.get("user") == FLOOD_USER
        peer.sent = 0
        peer.number = self._number
        peer.pieces = pieces = chunks.StreamBytes(self._number)
        now = time.monotonic_ns()
        self._sent_one(peer)
        if not self._write(peer, pieces.opening() + pieces.token(now)):
            return
        interval = self._pace.interval_ns
        if peer.sent >= peer.limit:
            self._finish(peer)
        elif peer.flood:
            self._flood(peer)
        else:
            due = now + int(self._number * GOLDEN % 1 * interval)
            if self._pace.step:
                due = now - now % interval + interval
            heapq.heappush(self._due, (due, self._number, peer))

    def _sent_one(self, peer: Peer) -> None:
        peer.sent += 1
        self._tokens += 1

    def _send_due(self) -> None:
        heap = self._due
        interval = self._pace.interval_ns
        for _ in range(SENDS_MAX):
            now = time.monotonic_ns()
            if not heap or heap[0][0] > now:
                return
            due, number, peer = heap[0]
            if peer.number != number or not (pieces := peer.pieces) or not interval:
                heapq.heappop(heap)
                continue
            heapq.heapreplace(heap, (due + interval, number, peer))
            if len(peer.backlog) > BACKLOG_MAX_BYTES:
                self._withheld += 1
                continue
            self._late.append(now - due)
            self._sent_one(peer)
            if self._write(peer, pieces.token(now)) and peer.sent >= peer.limit:
                self._finish(peer)

    def _flood(self, peer: Peer) -> None:
        """Send as much as the socket takes at a go, up to four blocks, and come back when it is writable."""
        for _ in range(4):
            if not peer.live or not peer.pieces or peer.backlog:
                return
            block = min(FLOOD_TOKENS, peer.limit - peer.sent)
            token = peer.pieces.token(time.monotonic_ns())
            peer.sent += block
            self._tokens += block
            if self._write(peer, token * block) and peer.sent >= peer.limit:
                self._finish(peer)
        self._want_out(peer)

    def _finish(self, peer: Peer) -> None:
        if peer.pieces:
            ending = peer.pieces.ending(peer.sent, usage=peer.usage)
            peer.pieces = None
            if self._write(peer, ending) and peer.inbox:
                self._requests(peer)

    def _write(self, peer: Peer, data: bytes) -> bool:
        """Send or keep `data`; False when the reader is gone."""
        if peer.backlog:
            peer.backlog += data
            return True
        try:
            sent = peer.sock.send(data)
        except BlockingIOError:
            sent = 0
        except OSError:
            self._drop(peer)
            return False
        if sent < len(data):
            peer.backlog = data[sent:]
            self._want_out(peer)
        return True

    def _want_out(self, peer: Peer) -> None:
        if peer.live and not peer.out_armed:
            peer.out_armed = True
            self._epoll.modify(peer.fd, _IN | _OUT)

    def _writable(self, peer: Peer) -> None:
        backlog, peer.backlog = peer.backlog, b""
        if backlog and not self._write(peer, backlog):
            return
        if peer.backlog:
            return
        if peer.pieces and peer.flood:
            self._flood(peer)
        elif peer.live:
            peer.out_armed = False
            self._epoll.modify(peer.fd, _IN)

    def _drop(self, peer: Peer) -> None:
        if peer.live:
            peer.live = False
            self._aborted += peer.pieces is not None
            peer.pieces = None
            del self._peers[peer.fd]
            peer.sock.close()


def serve() -> None:
    """Run until the benchmark closes the pipe."""
    gc.disable()  # It makes no cycles, and a pause would be taken for the gateway's.
    try:
        Backend().run()
    except HungUpError:
        return


if __name__ == "__main__":
    serve()
