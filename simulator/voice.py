"""How one engine says what the generation core made: its streams, its whole answers and its errors."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final, Protocol

from simulator.answers import Finished, chat_answer, text_answer
from simulator.body import Body
from simulator.choice import Choice
from simulator.directives import Directives
from simulator.errors import EngineError
from simulator.frames import Usage
from simulator.request import Generate
from simulator.settings import SimulatorSettings
from simulator.streaming import Streaming
from simulator.tokens import Token

__all__ = ["VLLM", "Spoken", "Voice"]


class Spoken(Protocol):
    """One streamed answer under way."""

    body: Body

    def begin(self, choices: list[Choice]) -> None:
        """The choices are made and about to be queued."""

    def direct(self) -> Callable[[Choice, Token], None] | None:
        """Return a hot path for plain tokens, or None."""

    def open(self) -> None:
        """Say what comes before the first token."""

    def say(self, choice: Choice, text: str, tokens: list[Token], reason: str | None, stopped: str | None) -> None:
        """Say what a choice has to say."""

    def finish(self, metrics: dict[str, Any] | None) -> None:
        """Every choice has ended."""

    def error(self, error: EngineError) -> None:
        """Say an error in-band."""

    def garbage(self) -> None:
        """Say something malformed."""

    def stop(self) -> None:
        """No timer is left behind."""


class Voice(Protocol):
    """One engine's way to speak."""

    stream_type: str
    #: Work on a whole answer stops when its client leaves.
    cancels_whole: bool

    def spoken(
        self, body: Body, request: Generate, directives: Directives, settings: SimulatorSettings,
        loop: asyncio.AbstractEventLoop, *, id_: str, created: int, usage: Usage,
    ) -> Spoken:  # fmt: skip
        """Return a streamed answer."""

    def whole(
        self, request: Generate, finished: list[Finished], usage: Usage, metrics: dict[str, Any] | None, *,
        id_: str, created: int,
    ) -> bytes:  # fmt: skip
        """Return a whole answer."""

    def refusal(self, error: EngineError) -> bytes:
        """Return the body of an error's answer."""


class _Vllm:
    stream_type = "text/event-stream; charset=utf-8"
    cancels_whole = True

    def spoken(
        self, body: Body, request: Generate, directives: Directives, settings: SimulatorSettings,
        loop: asyncio.AbstractEventLoop, *, id_: str, created: int, usage: Usage,
    ) -> Spoken:  # fmt: skip
        return Streaming(body, request, directives, settings, loop, id_=id_, created=created, usage=usage)

    def whole(
        self, request: Generate, finished: list[Finished], usage: Usage, metrics: dict[str, Any] | None, *,
        id_: str, created: int,
    ) -> bytes:  # fmt: skip
        make = chat_answer if request.chat else text_answer
        return make(
            id_, created, request.model, finished, usage, logprobs=request.logprobs,
            ids=request.return_token_ids, metrics=metrics, echo=request.echo,
        )  # fmt: skip

    def refusal(self, error: EngineError) -> bytes:
        return error.body()


VLLM: Final[Voice] = _Vllm()
