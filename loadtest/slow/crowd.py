"""The crowd: readers that take a little each second, and readers that take nothing (`python -m`, see `main`).

Their streams are sent as fast as they are read, so every buffer on the way is full within a second or two: what a
gateway holds then is what it holds for a slow reader at most.
"""

from __future__ import annotations

import contextlib
import json
import select
import socket
import sys
import time
from typing import Final

from loadtest.relay.load.backend import FLOOD_USER
from loadtest.relay.load.chunks import MODEL

#: A phone's receive buffer, not a server's.
RCVBUF_BYTES: Final = 4096
STEP_S: Final = 0.05
#: A gateway that takes longer to take a reader and its request serves nobody.
CONNECT_S: Final = 30.0


class Crowd:
    """Readers of endless streams.

    Args:
        host: of the gateway.
        port: of the gateway.
        slow: readers that take `bytes_per_s`.
        frozen: readers that take nothing after the connection.
        bytes_per_s: pace of a slow reader.
    """

    def __init__(self, host: str, port: int, *, slow: int, frozen: int, bytes_per_s: int) -> None:
        self._bytes_per_s = bytes_per_s
        self._slow: dict[int, socket.socket] = {}
        self._frozen: dict[int, socket.socket] = {}
        self._lost = select.poll()
        self.slow_cut = self.frozen_cut = 0
        self.taken_bytes = 0
        body = json.dumps(
            {
                "model": MODEL,
                "stream": True,
                "user": FLOOD_USER,
                "max_tokens": 1_000_000_000,
                "messages": [{"role": "user", "content": "Go on."}],
            }
        ).encode()
        head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: {host}:{port}\r\nContent-Type: application/json\r\n"
        request = f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body
        for number in range(slow + frozen):
            sock = socket.socket()
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RCVBUF_BYTES)
            sock.settimeout(CONNECT_S)
            sock.connect((host, port))
            sock.sendall(request)
            sock.setblocking(False)
            (self._slow if number < slow else self._frozen)[sock.fileno()] = sock
            # The kernel reports a reset without being asked for data.
            self._lost.register(sock, 0)

    def step(self, turn: int, turns: int) -> None:
        """Let one part of `turns` of the slow readers take what a second allows."""
        for number, sock in enumerate(list(self._slow.values())):
            if number % turns == turn:
                try:
                    data = sock.recv(self._bytes_per_s)
                except BlockingIOError:
                    continue
                except OSError:
                    data = b""
                self.taken_bytes += len(data)
                if not data:
                    self.slow_cut += self._drop(self._slow, sock.fileno())
        for fd, _ in self._lost.poll(0):
            self.frozen_cut += self._drop(self._frozen, fd)
            self.slow_cut += self._drop(self._slow, fd)

    def _drop(self, readers: dict[int, socket.socket], fd: int) -> int:
        sock = readers.pop(fd, None)
        if sock is None:
            return 0
        self._lost.unregister(fd)
        sock.close()
        return 1

    def report(self) -> dict[str, int]:
        """Return what became of the readers so far."""
        return {
            "slow": len(self._slow),
            "frozen": len(self._frozen),
            "slow_cut": self.slow_cut,
            "frozen_cut": self.frozen_cut,
            "taken_bytes": self.taken_bytes,
        }


def main(arguments: list[str]) -> None:
    """Run `HOST PORT SLOW FROZEN BYTES_PER_S`: one JSON line for each line on standard input, until that ends."""
    host, *numbers = arguments
    port, slow, frozen, bytes_per_s = map(int, numbers)
    crowd = Crowd(host, port, slow=slow, frozen=frozen, bytes_per_s=bytes_per_s)
    asked = select.poll()
    asked.register(sys.stdin, select.POLLIN | select.POLLHUP)
    turns = round(1 / STEP_S)
    turn = 0
    due = time.monotonic()
    with contextlib.suppress(BrokenPipeError):
        while True:
            due += STEP_S
            crowd.step(turn, turns)
            turn = (turn + 1) % turns
            while asked.poll(max(0, (due - time.monotonic()) * 1000)):
                if not sys.stdin.buffer.readline():
                    return
                print(json.dumps(crowd.report()), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
