"""The events of one streamed answer, in order: role, (echo,) content, finish, usage, `[DONE]`."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any, Final

from simulator.body import Body
from simulator.choice import Choice
from simulator.directives import Directives
from simulator.errors import EngineError
from simulator.frames import ChatFrames, TextFrames, Usage
from simulator.request import Generate
from simulator.settings import SimulatorSettings
from simulator.tokens import Token

__all__ = ["Streaming"]

_DONE: Final = b"data: [DONE]\n\n"
#: vLLM's own comment (f01_keepalive_queued).
_KEEP_ALIVE: Final = b": keep-alive\n\n"
_GARBAGE: Final = {
    "json": b'data: {"id":"chatcmpl-0","object":"chat.completion.chunk","choi\n\n',
    "line": b"this line is no field at all\n\n",
    "utf8": b'data: {"id":"\xff\xfe\xc3"}\n\n',
}


class Streaming:
    """Turns what the choices say into events.

    Args:
        body: where events go.
        request: what was asked for.
        directives: `no_done`, `no_finish`, `usage`, `role_early`, `keepalive_ms` and `garbage` are heeded.
        settings: for the keep-alive interval.
        loop: for the keep-alive timer.
        id_: the response's id.
        created: seconds since the epoch.
        usage: the request's tokens; counted elsewhere.
    """

    def __init__(
        self, body: Body, request: Generate, directives: Directives, settings: SimulatorSettings,
        loop: asyncio.AbstractEventLoop, *, id_: str, created: int, usage: Usage,
    ) -> None:  # fmt: skip
        self.body = body
        self._request = request
        self._directives = directives
        self._loop = loop
        self._usage = usage
        self._usage_chunk = request.usage
        self._continuous = request.continuous_usage
        if directives.usage is not None:
            self._usage_chunk = directives.usage != "off"
            self._continuous = directives.usage == "continuous"
        self._chat: ChatFrames | None = None
        self._text: TextFrames | None = None
        if request.chat:
            self._chat = ChatFrames(id_, created, request.model, fingerprinted=not self._usage_chunk)
        else:
            self._text = TextFrames(id_, created, request.model, fingerprinted=not self._usage_chunk)
        self._choices: list[Choice] = []
        self._opened = False
        self._named: set[int] = set()
        self._halves: list[tuple[bytes, bytes]] = []
        self._last = time.monotonic()
        interval_ms = settings.sse_keep_alive_ms if directives.keepalive_ms is None else directives.keepalive_ms
        self._interval_s = interval_ms * 0.001
        self._keep_alive: asyncio.TimerHandle | None = None
        if self._interval_s:
            self._keep_alive = loop.call_later(self._interval_s, self._tick)

    def begin(self, choices: list[Choice]) -> None:
        """The choices are made and about to be queued."""
        self._choices = choices
        frames = self._chat or self._text
        self._halves = [frames.halves(choice.index) for choice in choices] if frames is not None else []
        if self._directives.role_early:
            self.open()

    def direct(self) -> Callable[[Choice, Token], None] | None:
        """Return the hot path, where each token is one event with nothing but its text in it."""
        request = self._request
        plain = (
            request.logprobs is None
            and not request.return_token_ids
            and not request.stop
            and not request.min_tokens
            and request.tool is None
            and not self._continuous
            and (request.chat or not request.echo)
        )
        if not plain:
            return None
        return self._direct_framed if self.body.plain else self._direct_event

    def open(self) -> None:
        """Send the role event of every choice, and the echo (a04_stream_n2, a12b_stream_prefill_echo)."""
        if self._opened:
            return
        self._opened = True
        frames = self._chat
        if frames is None:
            return
        for choice in self._choices:
            ids = choice.prompt.ids if self._request.return_token_ids else None
            self.body.event(frames.role(choice.index, ids, self._running(choice)))
        for choice in self._choices:
            if self._request.echo and choice.prompt.so_far:
                self.body.event(frames.echo(choice.index, choice.prompt.so_far, self._running(choice)))

    def say(self, choice: Choice, text: str, tokens: list[Token], reason: str | None, stopped: str | None) -> None:
        """Send what a choice has to say."""
        if not self._opened:
            self.open()
        self._last = time.monotonic()
        if self._directives.no_finish and reason is not None:
            reason, stopped = None, None
            if not text:
                return
        if self._text is not None:
            self._say_text(self._text, choice, text, tokens, reason, stopped)
        elif self._chat is not None and self._request.tool is not None:
            self._say_tool(self._chat, choice, text, reason)
        elif self._chat is not None:
            self._say_chat(self._chat, choice, text, tokens, reason, stopped)

    def finish(self, metrics: dict[str, Any] | None) -> None:
        """Every choice has ended: usage, if asked for, and `[DONE]`."""
        frames = self._chat or self._text
        if self._usage_chunk and frames is not None:
            self.body.event(frames.usage(self._usage, metrics))
        if not self._directives.no_done:
            self.body.event(_DONE)

    def error(self, error: EngineError) -> None:
        """An error in-band; `[DONE]` follows it all the same (c08b_bad_schema_stream)."""
        self.body.event(b"data: %b\n\n" % error.event())
        if not self._directives.no_done:
            self.body.event(_DONE)

    def garbage(self) -> None:
        """Send one malformed event."""
        self.body.event(_GARBAGE[self._directives.garbage or "json"])

    def stop(self) -> None:
        """No timer is left behind."""
        if self._keep_alive is not None:
            self._keep_alive.cancel()
            self._keep_alive = None

    def _direct_framed(self, choice: Choice, token: Token) -> None:
        if not self._opened:
            self.open()
        self._last = choice.sequence.due
        before, after = self._halves[choice.index]
        text = token.json
        self.body.write(b"%x\r\n%b%b%b\r\n" % (len(before) + len(text) + len(after), before, text, after))

    def _direct_event(self, choice: Choice, token: Token) -> None:
        if not self._opened:
            self.open()
        self._last = choice.sequence.due
        before, after = self._halves[choice.index]
        self.body.event(b"%b%b%b" % (before, token.json, after))

    def _running(self, choice: Choice) -> bytes:
        return self._usage.running(choice.prompt.tokens, choice.tokens or choice.sent) if self._continuous else b""

    def _say_chat(
        self,
        frames: ChatFrames,
        choice: Choice,
        text: str,
        tokens: list[Token],
        reason: str | None,
        stopped: str | None,
    ) -> None:
        request = self._request
        usage, ids = self._running(choice), request.return_token_ids
        if reason is not None:
            self.body.event(frames.finish(
                choice.index, text, tokens, request.logprobs, usage, reason=reason, stop_reason=stopped, ids=ids
            ))  # fmt: skip
        elif text:
            # A token that adds no text yet makes no event in a chat (a01_stream).
            self.body.event(frames.content(choice.index, text, tokens, request.logprobs, usage, ids=ids))

    def _say_tool(self, frames: ChatFrames, choice: Choice, text: str, reason: str | None) -> None:
        tool, usage = self._request.tool, self._running(choice)
        if tool is None:
            return
        if choice.index not in self._named:
            self._named.add(choice.index)
            self.body.event(frames.tool_name(choice.index, choice.tool_id, tool.name, usage))
        if text:
            self.body.event(frames.tool_arguments(choice.index, text, usage))
        if reason is not None:
            # The finish event of a call has an empty delta, at the length limit too (a21_stream_tool_named_strict).
            reason = self._request.finish_reason(reason)
            self.body.event(frames.finish(
                choice.index, "", [], None, usage, reason=reason, stop_reason=None, ids=False
            ))  # fmt: skip

    def _say_text(
        self,
        frames: TextFrames,
        choice: Choice,
        text: str,
        tokens: list[Token],
        reason: str | None,
        stopped: str | None,
    ) -> None:
        request = self._request
        ids = request.return_token_ids
        first = choice.sent <= 1 and choice.chars == 0
        prefix = choice.prompt.so_far if request.echo and first else ""
        self.body.event(frames.piece(
            choice.index, prefix + text, tokens, request.logprobs, self._running(choice),
            offset=choice.chars + (len(choice.prompt.so_far) if request.echo else 0), reason=reason,
            stop_reason=stopped, prompt_ids=choice.prompt.ids if first and ids else None, ids=ids,
        ))  # fmt: skip

    def _tick(self) -> None:
        """Send a keep-alive when nothing was sent for an interval, while queueing too (f01_keepalive_queued)."""
        silent = time.monotonic() - self._last
        if silent >= self._interval_s - 0.001:
            self.body.event(_KEEP_ALIVE)
            self._last = time.monotonic()
            silent = 0.0
        self._keep_alive = self._loop.call_later(self._interval_s - silent, self._tick)
