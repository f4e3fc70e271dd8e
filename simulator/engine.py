"""The engine behind the HTTP server: the batch, its counters, and what is in flight."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import msgspec

from simulator.batch import Batch
from simulator.errors import BACKLOG, BUSY, busy, draining
from simulator.faults import Fault, parse_fault
from simulator.metrics import Gauges, Metrics
from simulator.request import Generate
from simulator.settings import SimulatorSettings
from simulator.vram import Vram

if TYPE_CHECKING:
    from simulator.generation import Generation

__all__ = ["Engine", "Stats"]


class Stats(msgspec.Struct):
    """What a simulator has done so far. A *stream* is a generating request, streamed or not."""

    #: Sequences in the batch, and in its queue, now.
    running: int = 0
    waiting: int = 0
    #: Streams that are not over now.
    open: int = 0
    #: Open TCP connections now.
    connections: int = 0
    started: int = 0
    finished: int = 0
    #: Their client left before the end.
    aborted: int = 0
    #: Ended by a directive, a fault or a shutdown.
    failed: int = 0
    #: Tokens generated, for anybody.
    tokens: int = 0
    #: Connections reset because their reader let too much pile up.
    overflowed: int = 0


class Engine:
    """State shared by all requests.

    Args:
        settings: of this simulator.
        loop: whose timers drive the batch.
    """

    def __init__(self, settings: SimulatorSettings, loop: asyncio.AbstractEventLoop) -> None:
        self.settings = settings
        self.loop = loop
        self.metrics = Metrics(settings)
        self.batch = Batch(settings, self.metrics, loop)
        self.stats = Stats()
        self.fault: Fault = parse_fault(settings.fault, name=settings.name)
        #: What the process holds of a GPU that is not there.
        self.vram = Vram(loop, release_ms=settings.release_ms)
        self.sleep_level: int | None = None
        self.draining = False
        #: Requests in flight that are no generations: predictions.
        self.others = 0
        #: Set whenever nothing is in flight.
        self.idle = asyncio.Event()
        self.idle.set()
        self._open: dict[Generation, None] = {}

    def admit(self, request: Generate) -> None:
        """Check a request against the queue's limits, before any byte of its answer.

        Raises:
            EngineError: 503, the queue is full (e01); 500, the process drains (h_drain_new_request).
        """
        if self.draining:
            raise draining()
        prompt_tokens = sum(prompt.tokens for prompt in request.prompts) * request.n
        limit = self.batch.overflow(len(request.prompts) * request.n, prompt_tokens)
        if limit is not None:
            self.metrics.rejections[limit] += 1
            raise busy(BUSY if limit == "max_num_queued_reqs" else BACKLOG)
        self.metrics.parameters(request.n, max(request.max_tokens))

    def enter(self, generation: Generation) -> None:
        """A generation begins."""
        self._open[generation] = None
        self.stats.started += 1
        self.idle.clear()

    def leave(self, generation: Generation) -> None:
        """A generation is over, however it ended."""
        self._open.pop(generation, None)
        if not self._open:
            self.idle.set()

    @property
    def open(self) -> list[Generation]:
        """What is in flight."""
        return list(self._open)

    def sleep(self, level: int, *, abort: bool) -> None:
        """Stop scheduling; `abort` ends what runs with finish_reason "abort" (j11, j12)."""
        self.sleep_level = level
        self.batch.set_asleep(asleep=True)
        if abort:
            for generation in self.open:
                generation.cut("abort")
        if level:
            self.batch.prefixes.clear()
            self.vram.give("weights")
            self.vram.give("kv_cache")

    def load(self) -> None:
        """Take the memory of a running vLLM: weights, KV cache, and what stays in sleep (gpu-backends §1.1)."""
        self.vram.take("residue", self.settings.residue_bytes)
        self.vram.take("weights", self.settings.weights_bytes)
        self.vram.take("kv_cache", self.settings.kv_bytes)

    def wake(self) -> None:
        """Schedule again; what queued meanwhile starts (j08_request_sent_while_sleeping)."""
        if self.sleep_level:
            self.load()
        self.sleep_level = None
        self.batch.set_asleep(asleep=False)

    def snapshot(self) -> Stats:
        """Return the counters with the gauges of this moment."""
        self.stats.running = len(self.batch.running)
        self.stats.waiting = len(self.batch.waiting)
        self.stats.open = len(self._open) + self.others
        self.stats.tokens = self.metrics.generation_tokens
        return msgspec.structs.replace(self.stats)

    def exposition(self) -> bytes:
        """Return `/metrics`. Asleep, the gauges stand at 0 whatever queues (behaviour.txt `[sleep]`)."""
        asleep = self.sleep_level is not None
        running, waiting = (0, 0) if asleep else (len(self.batch.running), len(self.batch.waiting))
        return self.metrics.render(Gauges(running, waiting, self.batch.kv_usage, self.sleep_level))
