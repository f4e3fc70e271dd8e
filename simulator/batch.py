"""Continuous batching: who runs, who waits, and when each stream's next token is due. One scheduler for all.

waiting -- room in the batch and the KV cache --> running -- last token, abort --> gone
   ^                                                 |
   +------------- preempted: the KV cache is full ---+
"""

from __future__ import annotations

import asyncio
import enum
import math
import time
from collections import deque
from collections.abc import Callable

from simulator.metrics import Metrics
from simulator.prefixes import PrefixCache
from simulator.settings import SimulatorSettings
from simulator.wheel import Wheel

__all__ = ["Batch", "Sequence", "Step"]

#: Spreads the phases of streams that start together: the fractional part of the golden ratio.
_GOLDEN = 0.6180339887498949
_NEVER = math.inf


class Step(enum.Enum):
    """What a sequence's token callback says to the scheduler."""

    GO_ON = 0
    DONE = 1
    #: Nothing more will come, and the place in the batch stays taken.
    STALL = 2


class Sequence:
    """One choice of one request, as the scheduler sees it.

    Args:
        on_token: called when the next token is due, with the time (monotonic, seconds).
        prompt_tokens: how many KV slots the prompt takes.
        prompt_key: the prompt's text, for the prefix cache.
        ttft_s: seconds from admission to the first token; None for the engine's own.
        itl_s: seconds between tokens; None for the engine's own.
    """

    __slots__ = (
        "admitted", "arrived", "blocks", "computed", "due", "first", "generated", "itl_s", "last", "live",
        "next_block_at", "on_token", "preemptions", "prompt_key", "prompt_tokens", "running", "ttft_s",
    )  # fmt: skip

    def __init__(
        self,
        on_token: Callable[[float], Step],
        *,
        prompt_tokens: int,
        prompt_key: str,
        ttft_s: float | None = None,
        itl_s: float | None = None,
    ) -> None:
        self.on_token = on_token
        self.prompt_tokens = prompt_tokens
        self.prompt_key = prompt_key
        self.ttft_s = ttft_s
        self.itl_s = itl_s
        self.arrived = self.admitted = self.first = self.last = 0.0
        self.due = 0.0
        self.generated = 0
        self.computed = prompt_tokens
        self.blocks = 0
        self.next_block_at = 0
        self.preemptions = 0
        self.live = True
        self.running = False


class Batch:
    """The engine core's scheduler.

    Args:
        settings: sizes and speed.
        metrics: what it counts into.
        loop: whose timers drive it.
    """

    def __init__(self, settings: SimulatorSettings, metrics: Metrics, loop: asyncio.AbstractEventLoop) -> None:
        self._settings = settings
        self._metrics = metrics
        self._loop = loop
        self.running: dict[Sequence, None] = {}
        self.waiting: deque[Sequence] = deque()
        self.asleep = False
        self._waiting_tokens = 0
        self._free_blocks = settings.kv_blocks
        self.prefixes = PrefixCache(settings.kv_blocks, settings.block_tokens)
        self._wheel: Wheel[Sequence] = Wheel(loop, self._due)
        self._admissions = 0
        self._steps = settings.pace == "step"
        self._step_handle: asyncio.TimerHandle | None = None

    @property
    def kv_usage(self) -> float:
        """Share of KV blocks in use, 0 to 1."""
        return 1 - self._free_blocks / self._settings.kv_blocks

    def overflow(self, sequences: int, prompt_tokens: int) -> str | None:
        """Return which queue limit a new request would break, None if none.

        Running and waiting count together, and `n` counts n, even on an idle engine (e07_n3_with_limit2_idle);
        the token limit spares a request that finds nothing waiting (e11_big_prompt_on_idle_over_limit).
        """
        limit = self._settings.max_num_queued_reqs
        if limit and len(self.running) + len(self.waiting) + sequences > limit:
            return "max_num_queued_reqs"
        limit = self._settings.max_num_queued_tokens
        if limit and self._waiting_tokens and self._waiting_tokens + prompt_tokens > limit:
            return "max_num_queued_tokens"
        return None

    def submit(self, sequence: Sequence) -> None:
        """Queue a new sequence; it may start at once."""
        sequence.arrived = time.monotonic()
        self._wait(sequence, first=False)
        self._admit()

    def abort(self, sequence: Sequence) -> None:
        """Stop a sequence whose client is gone; a finished one is left alone."""
        if sequence.live:
            self._leave(sequence)
            self._admit()

    def set_asleep(self, asleep: bool) -> None:
        """Stop or start scheduling: asleep, requests queue and nothing runs (j08_request_sent_while_sleeping)."""
        self.asleep = asleep
        self._admit()

    def close(self) -> None:
        """Stop every timer."""
        self._wheel.close()
        if self._step_handle is not None:
            self._step_handle.cancel()

    # Queue and room.

    def _wait(self, sequence: Sequence, *, first: bool) -> None:
        (self.waiting.appendleft if first else self.waiting.append)(sequence)
        self._waiting_tokens += sequence.prompt_tokens

    def _admit(self) -> None:
        settings = self._settings
        while self.waiting and not self.asleep and len(self.running) < settings.max_num_seqs:
            sequence = self.waiting[0]
            held = sequence.prompt_tokens + sequence.generated
            blocks = min(held // settings.block_tokens + 1, settings.kv_blocks)
            if blocks > self._free_blocks:
                return
            self.waiting.popleft()
            self._waiting_tokens -= sequence.prompt_tokens
            self._free_blocks -= blocks
            sequence.blocks = blocks
            sequence.next_block_at = blocks * settings.block_tokens
            sequence.running = True
            self.running[sequence] = None
            self._start(sequence)

    def _start(self, sequence: Sequence) -> None:
        now = time.monotonic()
        settings = self._settings
        if sequence.preemptions == 0:
            sequence.admitted = now
            hits = self.prefixes.hits(sequence.prompt_key, sequence.prompt_tokens)
            sequence.computed = sequence.prompt_tokens - hits
            self._metrics.admitted(sequence.prompt_tokens, hits)
        ttft_s = sequence.ttft_s
        if ttft_s is None:
            ttft_s = (settings.ttft_ms + settings.prefill_ms_per_token * sequence.computed) * 0.001
        self._admissions += 1
        if self._steps:
            sequence.due = now + ttft_s
            if self._step_handle is None:
                self._step_handle = self._loop.call_later(self._itl_s(), self._step, now + self._itl_s())
        else:
            # Streams that start together must not tick together: each gets its own place within one ITL.
            itl_s = self._itl_s() if sequence.itl_s is None else sequence.itl_s
            phase = self._admissions * _GOLDEN % 1.0 if sequence.ttft_s is None else 0.0
            sequence.due = now + ttft_s + phase * itl_s
            self._wheel.add(sequence, sequence.due)

    def _leave(self, sequence: Sequence) -> None:
        sequence.live = False
        if sequence.running:
            sequence.running = False
            del self.running[sequence]
            self._free_blocks += sequence.blocks
        else:
            self.waiting.remove(sequence)
            self._waiting_tokens -= sequence.prompt_tokens

    # Time.

    def _itl_s(self) -> float:
        settings = self._settings
        return settings.itl_ms * 0.001 * (1 + settings.itl_growth * max(0, len(self.running) - 1))

    def _due(self, sequences: list[Sequence], now: float) -> None:
        """Staggered: the wheel has come to these."""
        itl_s = self._itl_s()
        tokens = 0
        for sequence in sequences:
            if not sequence.running or sequence.due > now + 0.002:
                continue
            if self._token(sequence, now):
                # Paced from the moment that was meant, so that delays do not add up; a stream that has fallen more
                # than one ITL behind starts afresh instead of bursting.
                pause_s = itl_s if sequence.itl_s is None else sequence.itl_s
                due = sequence.due + pause_s
                sequence.due = due if due > now - pause_s else now
                self._wheel.add(sequence, sequence.due)
            tokens += 1
        self._metrics.iteration(tokens)

    def _step(self, at: float) -> None:
        """Step: one token for every stream that has its prompt computed, at the same moment."""
        now = time.monotonic()
        tokens = 0
        for sequence in list(self.running):
            if sequence.running and sequence.due <= now:
                tokens += 1
                if self._token(sequence, now):
                    sequence.due = now + (0.0 if sequence.itl_s is None else sequence.itl_s - 0.001)
        self._metrics.iteration(tokens)
        if not self.running:
            self._step_handle = None
            return
        following = max(at + self._itl_s(), now)
        self._step_handle = self._loop.call_later(max(0.0, following - time.monotonic()), self._step, following)

    def _token(self, sequence: Sequence, now: float) -> bool:
        """Let one sequence speak; return whether it will again."""
        step = sequence.on_token(now)
        if not sequence.running:
            return False  # Its own callback found the client gone.
        if step is Step.STALL:
            sequence.due = _NEVER
            return False
        sequence.generated += 1
        if sequence.first == 0.0:
            sequence.first = now
            self._metrics.first_token(now - sequence.arrived)
        else:
            self._metrics.token(now - sequence.last)
        sequence.last = now
        if step is Step.DONE:
            self._leave(sequence)
            self._admit()
            return False
        if sequence.prompt_tokens + sequence.generated >= sequence.next_block_at:
            return self._grow(sequence)
        return True

    def _grow(self, sequence: Sequence) -> bool:
        """Take one more KV block; when there is none, the newest sequence goes back to the queue."""
        while self._free_blocks == 0:
            newest = next(reversed(self.running))
            self._preempt(newest)
            if newest is sequence:
                return False
        self._free_blocks -= 1
        sequence.blocks += 1
        sequence.next_block_at += self._settings.block_tokens
        return True

    def _preempt(self, sequence: Sequence) -> None:
        del self.running[sequence]
        sequence.running = False
        self._free_blocks += sequence.blocks
        sequence.blocks = 0
        sequence.preemptions += 1
        self._metrics.preempted()
        self._wait(sequence, first=True)
