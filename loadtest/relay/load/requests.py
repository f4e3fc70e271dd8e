"""The client's short requests: open-loop arrivals, or one after the other, over kept connections."""

from __future__ import annotations

import random
import select
import time
from array import array
from collections import Counter
from typing import Final

from loadtest.relay.load.connection import Connection, request_bytes
from loadtest.relay.load.messages import Outcomes, RequestsReport, SendRequests
from loadtest.relay.stats import quantiles

NS: Final = 1_000_000_000


class RequestsJob:
    """Requests from the first arrival to the last end.

    Args:
        epoll: where the connections register themselves.
        spec: what to send.
    """

    def __init__(self, epoll: select.epoll, spec: SendRequests) -> None:
        self._epoll = epoll
        self._spec = spec
        self._request = request_bytes(spec.host, spec.port, stream=spec.stream, max_tokens=spec.max_tokens)
        self._random = random.Random(spec.seed)
        self.connections: dict[int, Connection] = {}
        self._idle: list[Connection] = []
        self._outcomes: Counter[str] = Counter()
        self._complaint = ""
        self._sent = 0
        self._skipped = 0
        self._under_way = 0
        self._ttft_ns = array("q")
        self._start_ns = time.monotonic_ns()
        self._next_ns = self._start_ns
        self._last_end_ns = self._start_ns
        self._stop_ns = self._start_ns + int(spec.seconds * NS)

    @property
    def _sending(self) -> bool:
        return self._sent < self._spec.count and self._next_ns < self._stop_ns

    def due_ns(self) -> int:
        """Return when `tick` wants to be called next, monotonic ns."""
        if self._sending and (self._spec.rate_per_s or self._under_way < self._spec.in_flight_max):
            return self._next_ns
        return self._stop_ns + int(self._spec.deadline_s * NS)

    def tick(self, now: int) -> RequestsReport | None:
        """Send the requests that have arrived; report when the last has ended."""
        spec = self._spec
        while self._sending and self._next_ns <= now:
            if self._under_way < spec.in_flight_max:
                # Counted from its arrival, not from when this process came round to it.
                self._send(self._next_ns if spec.rate_per_s else now)
            elif spec.rate_per_s:
                self._skipped += 1
            else:
                break
            if spec.rate_per_s:
                self._next_ns += int(self._random.expovariate(spec.rate_per_s) * NS)
            else:
                self._next_ns = now
        if self._sending or (self._under_way and now < self._stop_ns + int(spec.deadline_s * NS)):
            return None
        return self._report()

    def _send(self, asked_ns: int, *, fresh: bool = False) -> None:
        self._sent += 1
        self._under_way += 1
        if self._idle and not fresh:
            connection = self._idle.pop()
        else:
            connection = Connection(self._spec.host, self._spec.port, self._epoll, stream=self._spec.stream)
            self.connections[connection.fd] = connection
        connection.ask(self._request, asked_ns)
        if connection.outcome:
            self.ended(connection)

    def tokens(self, connection: Connection, now: int, stamps: list[int]) -> None:
        """Do nothing: a request's first token is on its connection."""

    def ended(self, connection: Connection) -> None:
        """A request has its answer, or its connection is lost."""
        if connection in self._idle:  # Closed by the gateway between two requests.
            self._idle.remove(connection)
            self._close(connection)
            return
        self._under_way -= 1
        if connection.stale:
            # As every HTTP client does: once more, on a new connection. Its time counts from the arrival.
            self._sent -= 1
            self._close(connection)
            self._send(connection.asked_ns, fresh=True)
            return
        self._outcomes[connection.outcome or "unfinished"] += 1
        self._complaint = self._complaint or connection.refusal
        self._last_end_ns = time.monotonic_ns()
        if connection.outcome == "whole":
            self._ttft_ns.append(connection.first_ns - connection.asked_ns)
        if connection.reusable:
            self._idle.append(connection)
        else:
            self._close(connection)
        if not self._spec.rate_per_s:
            self._next_ns = self._last_end_ns

    def _close(self, connection: Connection) -> None:
        del self.connections[connection.fd]
        connection.close()

    def close(self) -> None:
        """Close what is still open."""
        for connection in list(self.connections.values()):
            if connection not in self._idle:
                self._outcomes["unfinished"] += 1
            self._close(connection)
        self._idle.clear()

    def _report(self) -> RequestsReport:
        self.close()
        return RequestsReport(
            outcomes=Outcomes(**self._outcomes),
            skipped=self._skipped,
            seconds=(self._last_end_ns - self._start_ns) / NS,
            ttft_ms=quantiles(self._ttft_ns, 1_000_000),
            complaint=self._complaint,
        )
