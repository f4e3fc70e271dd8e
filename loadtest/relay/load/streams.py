"""The client's long streams: opens them evenly, then records every token until the benchmark ends them."""

from __future__ import annotations

import select
import time
from array import array
from collections import Counter
from collections.abc import Iterable
from itertools import compress
from typing import Final

from loadtest.relay.load.connection import Connection, request_bytes
from loadtest.relay.load.messages import AwaitEnd, Flowing, OpenStreams, Outcomes, StreamsReport
from loadtest.relay.load.sockets import handshake_bytes
from loadtest.relay.stats import quantiles

NS: Final = 1_000_000_000
#: No stream reaches it: the backend ends them when it is told to.
TOKENS_WITHOUT_END: Final = 10_000_000


class StreamsJob:
    """`count` streams from opening to end.

    Args:
        epoll: where the connections register themselves.
        spec: what to open.
    """

    def __init__(self, epoll: select.epoll, spec: OpenStreams) -> None:
        self._epoll = epoll
        self._spec = spec
        self._tokens = TOKENS_WITHOUT_END if spec.websocket else 0
        if spec.websocket:
            self._request = handshake_bytes(spec.host, spec.port)
        else:
            self._request = request_bytes(
                spec.host, spec.port, stream=True, max_tokens=TOKENS_WITHOUT_END, resumable=spec.resumable
            )
        self.connections: dict[int, Connection] = {}
        self._outcomes: Counter[str] = Counter()
        self._complaint = ""
        self._opened = 0
        self._waiting = 0  # Opened, and no token and no end yet.
        self._flowing = 0
        self._gap_ns = int(NS / spec.ramp_per_s)
        now = time.monotonic_ns()
        self._next_ns = now
        self._deadline_ns = now + int(spec.deadline_s * NS)
        self._said_flowing = False
        self._end: AwaitEnd | None = None
        self._end_ns = 0
        # One entry for each read that brought tokens: when, how many; and one for each token.
        self._read_ns = array("q")
        self._read_tokens = array("q")
        self._token_ns = array("q")
        self._transit_ns = array("q")
        self._gaps_ns = array("q")
        self._ttft_ns = array("q")

    def due_ns(self) -> int:
        """Return when `tick` wants to be called next (monotonic ns), 0 = never."""
        if self._end:
            return self._end_ns
        if self._said_flowing:
            return 0
        if self._opened < self._spec.count and self._waiting < self._spec.pending_max:
            return min(self._next_ns, self._deadline_ns)
        return self._deadline_ns

    def tick(self, now: int) -> Flowing | StreamsReport | None:
        """Open streams that are due; answer the benchmark when there is something to say."""
        if self._end:
            if self.connections and now < self._end_ns:
                return None
            return self._report(self._end)
        if self._said_flowing:
            return None
        while (
            self._opened < self._spec.count
            and self._waiting < self._spec.pending_max
            and self._next_ns <= now < self._deadline_ns
        ):
            self._next_ns = max(self._next_ns, now - NS // 100) + self._gap_ns
            self._open(now)
        settled = self._opened == self._spec.count and not self._waiting
        if settled or now >= self._deadline_ns:
            self._said_flowing = True
            return Flowing(count=self._flowing)
        return None

    def _open(self, now: int) -> None:
        spec = self._spec
        connection = Connection(spec.host, spec.port, self._epoll, stream=True, socket_tokens=self._tokens)
        connection.ask(self._request, now)
        self.connections[connection.fd] = connection
        self._opened += 1
        self._waiting += 1
        if connection.outcome:
            self.ended(connection)

    def end_by(self, command: AwaitEnd) -> None:
        """From now on, report as soon as all streams have ended."""
        self._end = command
        self._end_ns = time.monotonic_ns() + int(command.deadline_s * NS)

    def tokens(self, connection: Connection, now: int, stamps: list[int]) -> None:
        """Record the tokens of one read."""
        last = connection.last_ns
        connection.last_ns = now
        if not last:
            self._waiting -= 1
            self._flowing += 1
            self._ttft_ns.append(now - connection.asked_ns)
        self._read_ns.append(now)
        self._read_tokens.append(len(stamps))
        if self._spec.counts_only:
            return
        for stamp in stamps:
            self._token_ns.append(now)
            self._transit_ns.append(now - stamp)
            self._gaps_ns.append(now - last if last else -1)
            last = now

    def ended(self, connection: Connection) -> None:
        """A stream is over."""
        if not connection.last_ns:
            self._waiting -= 1
        self._outcomes[connection.outcome or "unfinished"] += 1
        self._complaint = self._complaint or connection.refusal
        del self.connections[connection.fd]
        connection.close()

    def close(self) -> None:
        """Close what is still open."""
        for connection in list(self.connections.values()):
            self.ended(connection)

    def _report(self, window: AwaitEnd) -> StreamsReport:
        self.close()
        if missing := self._spec.count - self._opened:
            self._outcomes["unfinished"] += missing
        inside = [window.from_ns <= at < window.to_ns for at in self._token_ns]
        gaps: Iterable[int] = (gap for gap in compress(self._gaps_ns, inside) if gap >= 0)
        return StreamsReport(
            outcomes=Outcomes(**self._outcomes),
            tokens=sum(
                count
                for at, count in zip(self._read_ns, self._read_tokens, strict=True)
                if window.from_ns <= at < window.to_ns
            ),
            transit_us=quantiles(compress(self._transit_ns, inside), 1000),
            gap_ms=quantiles(gaps, 1_000_000),
            ttft_ms=quantiles(self._ttft_ns, 1_000_000),
            complaint=self._complaint,
        )
