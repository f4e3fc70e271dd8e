"""openai-python behind one synchronous door, so that each test runs on its sync and on its async client."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from operator import attrgetter
from types import TracebackType
from typing import Any, Literal, Self

import openai

__all__ = ["Heard", "Sdk"]


@dataclass
class Heard:
    """What a stream brought: its chunks, and the error that ended it."""

    chunks: list[Any] = field(default_factory=list)
    error: openai.APIError | None = None

    @property
    def text(self) -> str:
        """The joined content of the first choice."""
        pieces = [choice for chunk in self.chunks for choice in chunk.choices if choice.index == 0]
        return "".join((piece.delta.content if hasattr(piece, "delta") else piece.text) or "" for piece in pieces)

    @property
    def finish_reasons(self) -> list[str]:
        """Every finish_reason, in order."""
        return [choice.finish_reason for chunk in self.chunks for choice in chunk.choices if choice.finish_reason]

    @property
    def usage(self) -> list[Any]:
        """Every usage object, in order."""
        return [chunk.usage for chunk in self.chunks if chunk.usage is not None]


class Sdk:
    """One client of a server.

    Args:
        flavour: which of the library's two clients.
        url: the server's base address, without `/v1`.
        options: of the client; no retries unless they say so.
    """

    def __init__(self, flavour: Literal["sync", "async"], url: str, **options: Any) -> None:
        options = {"api_key": "not-needed", "max_retries": 0, "timeout": 30, **options, "base_url": f"{url}/v1"}
        self._runner = asyncio.Runner() if flavour == "async" else None
        self._sync = openai.OpenAI(**options) if self._runner is None else None
        self._async = openai.AsyncOpenAI(**options) if self._runner is not None else None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._sync is not None:
            self._sync.close()
        if self._async is not None and self._runner is not None:
            self._runner.run(self._async.close())
            self._runner.close()

    def call(self, method: str, *arguments: Any, **members: Any) -> Any:
        """Call a method such as `chat.completions.create` and return what it returns."""
        if self._runner is None:
            return attrgetter(method)(self._sync)(*arguments, **members)

        async def called() -> Any:
            return await attrgetter(method)(self._async)(*arguments, **members)

        return self._runner.run(called())

    def models(self) -> list[str]:
        """Return the ids that `models.list` pages through."""
        if self._sync is not None:
            return [model.id for model in self._sync.models.list()]
        ours = self._async
        if ours is None or self._runner is None:
            raise RuntimeError("closed")

        async def listed() -> list[str]:
            return [model.id async for model in ours.models.list()]

        return self._runner.run(listed())

    def stream(self, method: str, *, leave_after: int | None = None, **members: Any) -> Heard:
        """Read a stream to its end, or leave it after so many chunks."""
        heard = Heard()
        if self._runner is None:
            try:
                with attrgetter(method)(self._sync)(stream=True, **members) as stream:
                    for chunk in stream:
                        heard.chunks.append(chunk)
                        if len(heard.chunks) == leave_after:
                            break
            except openai.APIError as error:
                if not heard.chunks:
                    raise
                heard.error = error
            return heard

        async def read() -> None:
            try:
                async with await attrgetter(method)(self._async)(stream=True, **members) as stream:
                    async for chunk in stream:
                        heard.chunks.append(chunk)
                        if len(heard.chunks) == leave_after:
                            break
            except openai.APIError as error:
                if not heard.chunks:
                    raise
                heard.error = error

        self._runner.run(read())
        return heard
