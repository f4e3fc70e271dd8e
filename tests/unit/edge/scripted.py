"""Stand-ins for the two ends of a stream: an outlet that remembers, and a source that a test plays by hand."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from edge.streams.contracts import Ending, Outcome, Sink, UpstreamRequest
from edge.streams.meters import StreamMeters
from edge.streams.stream import Stream, StreamTimings
from streamkit.ops.metrics import Metrics
from streamkit.wire.backend import Capabilities
from streamkit.wire.errors import Code, HeadraceError
from streamkit.wire.route import Candidate
from streamkit.wire.sse import EventSplitter
from tests.support.timing import FACTOR, MS

#: Nothing that a test waits for takes so long unless it is lost.
DEADLINE_S = 10 * FACTOR
#: Far beyond any test.
NEVER_S = 3600.0


class News:
    """Lets a test wait until something is so, woken by whoever changes it."""

    def __init__(self) -> None:
        self._waiting: list[asyncio.Future[None]] = []

    def tell(self) -> None:
        waiting, self._waiting = self._waiting, []
        for future in waiting:
            if not future.done():
                future.set_result(None)

    async def until(self, condition: Callable[[], object]) -> None:
        async with asyncio.timeout(DEADLINE_S):
            while not condition():
                future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
                self._waiting.append(future)
                await future


async def turning(condition: Callable[[], object]) -> None:
    """Let the loop turn until something is so that nobody tells of."""
    async with asyncio.timeout(DEADLINE_S):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0)


class Outlet:
    """Remembers writes. `open` says whether the reader keeps up; `unsent` is what it has not taken."""

    def __init__(self) -> None:
        self.on_pause: Callable[[], None] | None = None
        self.on_resume: Callable[[], None] | None = None
        self.on_disconnect: Callable[[], None] | None = None
        self.writes: list[bytes] = []
        self.open = True
        self.unsent = 0
        self.looks = 0
        self.aborted = False
        self.news = News()

    @property
    def text(self) -> bytes:
        return b"".join(self.writes)

    @property
    def unsent_bytes(self) -> int:
        self.looks += 1
        self.news.tell()
        return self.unsent

    def write(self, data: bytes) -> bool:
        self.writes.append(data)
        self.news.tell()
        return self.open

    def abort(self) -> None:
        self.aborted = True
        self.news.tell()


class Upstream:
    """One attempt, played by the test: `feed`, then `end`."""

    def __init__(self, request: UpstreamRequest, sink: Sink, *, ends_on_cancel: bool = True) -> None:
        self.request = request
        self.calls: list[str] = []
        self.ends_on_cancel = ends_on_cancel
        self.over = False
        self._sink: Sink | None = sink
        self._splitter = EventSplitter(1 << 20, one_choice=request.one_choice)

    # Attempt

    def pause(self) -> None:
        self.calls.append("pause")

    def resume(self) -> None:
        self.calls.append("resume")

    def cancel(self) -> None:
        self.calls.append("cancel")
        if self.ends_on_cancel:
            # A real connection is gone one turn of the loop later.
            asyncio.get_running_loop().call_soon(self.end, Outcome(ending=Ending.CANCELLED))

    # For the test

    @property
    def paused(self) -> bool:
        return [call for call in self.calls if call != "cancel"][-1:] == ["pause"]

    @property
    def cancelled(self) -> bool:
        return "cancel" in self.calls

    def feed(self, data: bytes) -> None:
        if self._sink is not None and (batch := self._splitter.push(data)) is not None:
            self._sink.feed(batch)

    def end(self, outcome: Outcome) -> None:
        sink, self._sink = self._sink, None
        if sink is not None:
            self.over = True
            sink.end(outcome)

    def finish(self) -> None:
        """The event stream's body ends as HTTP says it must."""
        self.end(Outcome(ending=Ending.END, status=200, content_type=b"text/event-stream"))

    def answer(self, status: int, body: bytes, content_type: bytes = b"application/json") -> None:
        self.end(Outcome(ending=Ending.ANSWER, status=status, content_type=content_type, body=body))

    def break_off(self, code: Code = Code.STREAM_BROKEN, *, stale: bool = False) -> None:
        self.end(Outcome(ending=Ending.BROKEN, error=HeadraceError(code, f"It broke: {code}."), stale=stale))


class Source:
    """Opens upstreams for a test to play; `at_open` plays before `open` returns."""

    def __init__(self) -> None:
        self.opened: list[Upstream] = []
        self.at_open: Callable[[Upstream], None] | None = None
        self.ends_on_cancel = True
        self.news = News()

    @property
    def last(self) -> Upstream:
        return self.opened[-1]

    def open(self, request: UpstreamRequest, sink: Sink) -> Upstream:
        upstream = Upstream(request, sink, ends_on_cancel=self.ends_on_cancel)
        self.opened.append(upstream)
        sink.sent()
        if self.at_open is not None:
            self.at_open(upstream)
        self.news.tell()
        return upstream


def candidate(
    name: str = "a", *, url: str = "http://127.0.0.1:9", capabilities: Capabilities | None = None, **fields: object
) -> Candidate:
    """Return a candidate with the figures that a test does not care about."""
    known: dict[str, object] = {"engine": "vllm", "model": "m", "max_inflight": 4} | fields
    return Candidate(backend=name, url=url, capabilities=capabilities or Capabilities(), **known)  # type: ignore[arg-type]


def timings(heartbeat_ms: float = 0, commit_after_ms: float = 0, slow_reader_ms: float = 0) -> StreamTimings:
    """Return deadlines in scaled milliseconds; 0 = never in this test."""
    return StreamTimings(
        heartbeat_s=heartbeat_ms * MS or NEVER_S,
        commit_after_s=commit_after_ms * MS or NEVER_S,
        slow_reader_s=slow_reader_ms * MS or NEVER_S,
    )


def stream(metrics: Metrics, *, streaming: bool = True, kept: bool = False, **deadlines: float) -> Stream:
    """Return a stream that counts into `metrics` as operation `chat`, model `m`."""
    return Stream(
        loop=asyncio.get_running_loop(),
        request_id="r1",
        streaming=streaming,
        timings=timings(**deadlines),
        meters=StreamMeters(metrics, "chat", "m"),
        kept=kept,
    )


def delta(text: str = "a", index: int = 0) -> bytes:
    """Return an ordinary event."""
    choice = f'{{"index":{index},"delta":{{"content":"{text}"}},"finish_reason":null}}'
    return f'data: {{"id":"x","choices":[{choice}]}}\n\n'.encode()


def finish(reason: str = "stop", index: int = 0) -> bytes:
    """Return a finish chunk."""
    return b'data: {"choices":[{"index":%d,"delta":{},"finish_reason":"%b"}]}\n\n' % (index, reason.encode())


ROLE = b'data: {"choices":[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}]}\n\n'
USAGE = b'data: {"choices":[],"usage":{"prompt_tokens":3,"total_tokens":7,"completion_tokens":4}}\n\n'
DONE = b"data: [DONE]\n\n"
ERROR = b'data: {"error":{"message":"boom","type":"InternalServerError","param":null,"code":500}}\n\n'
PING = b": ping\n\n"
