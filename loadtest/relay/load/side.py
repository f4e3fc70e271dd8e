"""The benchmark's view of the load side: its backend and client processes."""

from __future__ import annotations

import select
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Final, Self, TypeVar

import msgspec

from loadtest.relay.children import Child
from loadtest.relay.load.messages import (
    AskPacing,
    AwaitEnd,
    Command,
    Failed,
    Finish,
    Flowing,
    Listening,
    OpenStreams,
    Pace,
    Pacing,
    Reply,
    RequestsReport,
    SendRequests,
    StreamsReport,
)

#: For answers that need no waiting on the gateway.
PROMPT_S: Final = 30.0

ReplyT = TypeVar("ReplyT", bound=Listening | Pacing | Flowing | StreamsReport | RequestsReport)


class LoadSideError(Exception):
    """A load process failed; the benchmark cannot go on."""


class _LoadProcess:
    def __init__(self, module: str, cpus: set[int], scratch: Path) -> None:
        self.child = Child(
            module,
            [sys.executable, "-m", f"loadtest.relay.load.{module}"],
            cpus=cpus,
            log=scratch / f"{module}.log",
            talks=True,
        )
        self._decoder: msgspec.json.Decoder[Reply] = msgspec.json.Decoder(Reply)
        self._held = b""

    def tell(self, command: Command) -> None:
        try:
            self.child.stdin.write(msgspec.json.encode(command) + b"\n")
        except BrokenPipeError:
            raise self._failure("is gone") from None

    def expect(self, kind: type[ReplyT], within_s: float) -> ReplyT:
        """Return its next reply, which must be of `kind`."""
        deadline = time.monotonic() + within_s
        poller = select.poll()
        poller.register(self.child.stdout, select.POLLIN)
        while b"\n" not in self._held:
            left_ms = (deadline - time.monotonic()) * 1000
            if left_ms <= 0 or not poller.poll(left_ms):
                raise self._failure(f"gave no {kind.__name__} within {within_s:.0f} s")
            data = self.child.stdout.read(1 << 20)
            if not data:
                raise self._failure("has ended")
            self._held += data
        line, _, self._held = self._held.partition(b"\n")
        reply = self._decoder.decode(line)
        if isinstance(reply, kind):
            return reply
        raise self._failure(reply.reason if isinstance(reply, Failed) else f"answered {reply}")

    def _failure(self, what: str) -> LoadSideError:
        return LoadSideError(f"the load side's {self.child.name} {what}\n{self.child.log_tail()}".rstrip())


class LoadSide:
    """Backend and client on the load side's CPUs; a context manager that ends them.

    Args:
        cpus: where both run.
        scratch: folder for their logs.
    """

    def __init__(self, cpus: set[int], scratch: Path) -> None:
        self._cpus = cpus
        self._scratch = scratch
        self._processes: list[_LoadProcess] = []
        self.backend_url = ""

    def __enter__(self) -> Self:
        try:
            for module in ("backend", "client"):
                self._processes.append(_LoadProcess(module, self._cpus, self._scratch))
            port = self._backend.expect(Listening, PROMPT_S).port
            self._client.expect(Listening, PROMPT_S)
        except BaseException:
            self._stop()
            raise
        self.backend_url = f"http://127.0.0.1:{port}"
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()

    def _stop(self) -> None:
        for process in self._processes:
            process.child.stop()
        self._processes.clear()

    @property
    def _backend(self) -> _LoadProcess:
        return self._processes[0]

    @property
    def _client(self) -> _LoadProcess:
        return self._processes[1]

    @property
    def pids(self) -> tuple[int, int]:
        """Pids of backend and client."""
        return self._backend.child.pid, self._client.child.pid

    def pace(self, pace: Pace) -> None:
        """Set how the backend sends from now on."""
        self._backend.tell(pace)

    def pacing(self) -> Pacing:
        """Return what the backend sent since the last `pace`."""
        self._backend.tell(AskPacing())
        return self._backend.expect(Pacing, PROMPT_S)

    def open_streams(self, spec: OpenStreams) -> int:
        """Open streams; return how many flow."""
        self._client.tell(spec)
        return self._client.expect(Flowing, spec.deadline_s + PROMPT_S).count

    def finish_streams(self, window_ns: tuple[int, int], drain_s: float) -> StreamsReport:
        """End all streams properly and return what the client saw of them in the window (monotonic ns)."""
        self._backend.tell(Finish())
        self._client.tell(AwaitEnd(deadline_s=drain_s, from_ns=window_ns[0], to_ns=window_ns[1]))
        return self._client.expect(StreamsReport, drain_s + PROMPT_S)

    def send_requests(self, spec: SendRequests) -> RequestsReport:
        """Send requests and return how they went."""
        self._client.tell(spec)
        return self._client.expect(RequestsReport, spec.seconds + spec.deadline_s + PROMPT_S)
