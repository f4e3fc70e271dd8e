"""One generating request, from its acceptance to its last byte."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable
from typing import Any, Protocol

from simulator.answers import Finished
from simulator.batch import Sequence
from simulator.body import Body
from simulator.choice import Choice
from simulator.directives import Directives
from simulator.engine import Engine
from simulator.errors import EngineError, engine_dead
from simulator.frames import Usage
from simulator.request import Generate
from simulator.source import make_source
from simulator.tokens import Token
from simulator.voice import VLLM, Spoken, Voice

__all__ = ["Exchange", "Generation"]


class Exchange(Protocol):
    """What a generation needs of its connection."""

    def answer(self, status: int, body: bytes, *, bare: bool = False) -> None:
        """Send a whole JSON answer; the exchange is over."""

    def stream(self, directives: Directives, content_type: str) -> Body:
        """Send the headers of a stream, at once, and return its body."""

    def over(self) -> None:
        """The body has ended; the connection may serve the next request."""

    def close(self) -> None:
        """Close (FIN) when all is sent; nothing more is written."""

    def reset(self) -> None:
        """Close with RST; what is unsent is lost."""


class Generation:
    """Runs one chat or completions request in the batch.

    Args:
        engine: the engine that it runs in.
        exchange: its connection.
        request: what was asked for.
        directives: how it is to misbehave.
        id_: the response's id.
        voice: how the engine says it.
        on_over: called once, when nothing of it runs any more.
    """

    def __init__(
        self, engine: Engine, exchange: Exchange, request: Generate, directives: Directives, id_: str,
        voice: Voice = VLLM, on_over: Callable[[], None] | None = None,
    ) -> None:  # fmt: skip
        self._voice = voice
        self._on_over = on_over
        self._engine = engine
        self._exchange = exchange
        self._request = request
        self._directives = directives
        self._id = id_
        self._created = int(time.time())
        self._choices: list[Choice] = []
        self._open = 0
        self._texts: dict[int, list[str]] = {}
        self._tokens: dict[int, list[Token]] = {}
        self._stream: Spoken | None = None
        self._usage = Usage(sum(prompt.tokens for prompt in request.prompts))
        self.live = True

    def start(self) -> None:
        """Queue its sequences; a stream's headers leave at once, whatever the queue (behaviour.txt, f01)."""
        engine = self._engine
        engine.enter(self)
        if self._directives.stall_headers:
            return
        request = self._request
        if request.stream:
            body = self._exchange.stream(self._directives, self._voice.stream_type)
            self._stream = self._voice.spoken(
                body, request, self._directives, engine.settings, asyncio.get_running_loop(),
                id_=self._id, created=self._created, usage=self._usage,
            )  # fmt: skip
            if self._directives.error_first:
                self.fail(engine_dead())
                return
        try:
            self._make_choices()
        except EngineError as error:
            self.fail(error)
            return
        if self._stream is not None:
            self._stream.begin(self._choices)
        for choice in self._choices:
            engine.batch.submit(choice.sequence)

    def abort(self) -> None:
        """The client is gone: free its places at once (behaviour.txt, disconnects)."""
        if self.live and (self._stream is not None or self._voice.cancels_whole):
            self._leave()
            self._engine.stats.aborted += 1

    def cut(self, reason: str) -> None:
        """End every choice now with `reason`, as `/sleep?mode=abort` does (j12_stream_aborted_by_sleep)."""
        for choice in self._choices:
            if self.live and choice.reason is None:
                self._engine.batch.abort(choice.sequence)
                choice.end(reason)

    def fail(self, error: EngineError) -> None:
        """End with an error: in-band with `[DONE]` on a stream (h_term_api_stream), else with its status."""
        if not self.live:
            return
        self._leave()
        self._engine.stats.failed += 1
        if self._stream is not None:
            self._stream.error(error)
            self._stream.body.end(self._exchange.over)
        else:
            self._exchange.answer(error.status, self._voice.refusal(error), bare=error.bare)

    def _make_choices(self) -> None:
        request, directives = self._request, self._directives
        seed = next(one for one in (directives.seed, request.seed, self._engine.settings.seed) if one is not None)
        direct = self._stream.direct() if self._stream is not None else None
        for number, prompt in enumerate(request.prompts):
            for of_n in range(request.n):
                source = make_source(request, directives, prompt, of_n, seed)
                choice = Choice(
                    len(self._choices), prompt, source, request, directives,
                    max_tokens=request.max_tokens[number], say=self._say, trip=self._trip, direct=direct,
                )  # fmt: skip
                if request.tool is not None:
                    choice.tool_id = f"chatcmpl-tool-{secrets.token_hex(8)}"
                self._choices.append(choice)
        self._open = len(self._choices)

    def _say(self, choice: Choice, text: str, tokens: list[Token], reason: str | None, stopped: str | None) -> None:
        if self._stream is not None:
            self._stream.say(choice, text, tokens, reason, stopped)
        else:
            self._texts.setdefault(choice.index, []).append(text)
            self._tokens.setdefault(choice.index, []).extend(tokens)
        if reason is None:
            return
        self._usage.completion += choice.tokens
        self._count(choice, reason)
        self._open -= 1
        if self._open == 0:
            self._finish()

    def _count(self, choice: Choice, reason: str) -> None:
        sequence = choice.sequence
        self._engine.metrics.ended(
            reason, prompt=sequence.prompt_tokens, computed=sequence.computed, tokens=choice.tokens,
            preemptions=sequence.preemptions, arrived=sequence.arrived, admitted=sequence.admitted,
            first=sequence.first, last=time.monotonic(),
        )  # fmt: skip

    def _finish(self) -> None:
        self._leave(finished=True)
        self._engine.stats.finished += 1
        if self._stream is not None:
            self._stream.finish(self._metrics())
            self._stream.body.end(self._exchange.over)
            return
        request, tool = self._request, self._request.tool
        finished = [
            Finished(
                index=choice.index, prompt=choice.prompt, text="".join(self._texts[choice.index]),
                tokens=self._tokens[choice.index], reason=request.finish_reason(choice.reason or "stop"),
                stop_reason=choice.stopped, tool=None if tool is None else (choice.tool_id, tool.name),
            )
            for choice in self._choices
        ]  # fmt: skip
        body = self._voice.whole(request, finished, self._usage, self._metrics(), id_=self._id, created=self._created)
        self._exchange.answer(200, body)

    def _metrics(self) -> dict[str, Any] | None:
        """The `metrics` object of `--enable-per-request-metrics` (k05_per_request_metrics)."""
        if not self._engine.settings.per_request_metrics:
            return None
        one: Sequence = self._choices[0].sequence
        now = time.monotonic()
        decode = max(now - one.first, 1e-6)
        tokens = self._choices[0].tokens
        metrics: dict[str, Any] = {
            "time_to_first_token_ms": (one.first - one.arrived) * 1000,
            "generation_time_ms": decode * 1000,
            "queue_time_ms": (one.admitted - one.arrived) * 1000,
            "mean_itl_ms": decode * 1000 / max(1, tokens - 1),
            "tokens_per_second": tokens / max(now - one.arrived, 1e-6),
        }
        if self._stream is None:
            metrics["speculative_decoding"] = None
        return metrics

    def _trip(self, choice: Choice, name: str) -> bool:
        """A directive fires; return whether the choice goes on."""
        stream = self._stream
        if stream is not None:
            stream.body.flush()
        if name in ("stall_after", "role_only"):
            if name == "role_only" and stream is not None:
                stream.open()
            return False
        if name == "garbage":
            if stream is not None:
                stream.garbage()
            return True
        if name == "error_after":
            self.fail(engine_dead())
            return False
        self._leave()
        self._engine.stats.failed += 1
        if name == "die_after" and stream is not None:
            # What was said before is on its way first, however small its pieces: a busy machine must not lose it.
            stream.body.settle(self._exchange.reset)
        elif name == "die_after":
            self._exchange.reset()
        elif name == "end_after" and stream is not None:
            stream.body.end(self._exchange.over)
        elif stream is not None:
            stream.body.flush()
            stream.body.settle(self._exchange.close)
        else:
            self._exchange.close()
        return False

    def _leave(self, *, finished: bool = False) -> None:
        self.live = False
        self._engine.leave(self)
        if self._on_over is not None:
            on_over, self._on_over = self._on_over, None
            on_over()
        if self._stream is not None:
            self._stream.stop()
        if not finished:
            for choice in self._choices:
                self._engine.batch.abort(choice.sequence)
