"""A streamed answer without a hot path, for voices that are there to be faithful and not to be fast."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from simulator.body import Body
from simulator.choice import Choice
from simulator.directives import Directives
from simulator.errors import EngineError
from simulator.frames import Usage
from simulator.request import Generate
from simulator.tokens import Token

__all__ = ["Frames", "PlainStream"]


class Frames(Protocol):
    """The bytes of one answer's events; an empty one is not sent."""

    @property
    def done(self) -> bytes:
        """The closing event."""

    @property
    def garbage(self) -> dict[str, bytes]:
        """Something malformed, by kind."""

    def role(self, index: int) -> bytes:
        """Before a choice's first token."""

    def piece(self, index: int, text: str) -> bytes:
        """A token."""

    def finish(self, index: int, reason: str | None) -> bytes:
        """After a choice's last token; None = a broken engine that does not say why."""

    def usage(self, usage: Usage) -> bytes:
        """After the last choice."""

    def error(self, error: EngineError) -> bytes:
        """An error in-band."""


class PlainStream:
    """Says each token as one event.

    Args:
        body: where events go.
        request: what was asked for.
        directives: `no_done`, `no_finish`, `garbage`, `role_early` and `usage` are heeded.
        frames: how it is said.
        usage: the request's tokens, counted elsewhere.
    """

    def __init__(self, body: Body, request: Generate, directives: Directives, frames: Frames, usage: Usage) -> None:
        self.body = body
        self._request = request
        self._directives = directives
        self._frames = frames
        self._usage = usage
        self._choices: list[Choice] = []
        self._opened: set[int] = set()

    def begin(self, choices: list[Choice]) -> None:
        """The choices are made and about to be queued."""
        self._choices = choices
        if self._directives.role_early:
            self.open()

    def direct(self) -> Callable[[Choice, Token], None] | None:
        """No hot path."""
        return None

    def open(self) -> None:
        """Open every choice."""
        for choice in self._choices:
            self._open(choice)

    def say(self, choice: Choice, text: str, tokens: list[Token], reason: str | None, stopped: str | None) -> None:
        """Say a token, and the choice's end."""
        self._open(choice)
        if text:
            self._send(self._frames.piece(choice.index, text))
        if reason is not None:
            said = None if self._directives.no_finish else self._request.finish_reason(reason)
            self._send(self._frames.finish(choice.index, said))

    def finish(self, metrics: dict[str, Any] | None) -> None:
        """Every choice has ended: usage, and the closing event."""
        wanted = self._request.usage if self._directives.usage is None else self._directives.usage != "off"
        if wanted:
            self._send(self._frames.usage(self._usage))
        if not self._directives.no_done:
            self._send(self._frames.done)

    def error(self, error: EngineError) -> None:
        """Say an error in-band; nothing follows it."""
        self._send(self._frames.error(error))

    def garbage(self) -> None:
        """Say something malformed."""
        self._send(self._frames.garbage[self._directives.garbage or "json"])

    def stop(self) -> None:
        """No timer to stop."""

    def _open(self, choice: Choice) -> None:
        if choice.index not in self._opened:
            self._opened.add(choice.index)
            self._send(self._frames.role(choice.index))

    def _send(self, event: bytes) -> None:
        if event:
            self.body.event(event)
