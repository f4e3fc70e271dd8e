"""Ollama: what is loaded, unloading and loading. It has no word for its queue, so `busy` says nothing."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, TypeVar

import msgspec

from core_gpu.arbiter.adapters.contract import AdapterError, Busy, Measure, ModelState, Room, Status, released_mb
from streamkit.flow.clock import MONOTONIC, Clock
from streamkit.ops.http_client import HttpClient, HttpError
from streamkit.wire.unreadable import UNREADABLE

__all__ = ["OllamaAdapter"]

T = TypeVar("T")
_CALL_MS: Final = 2_000
_MIB: Final = 1024 * 1024


class _Loaded(msgspec.Struct, frozen=True):
    name: str
    size_vram: int = 0


class _Ps(msgspec.Struct, frozen=True):
    """`GET /api/ps`."""

    models: tuple[_Loaded, ...] | None = None


class _Tag(msgspec.Struct, frozen=True):
    name: str


class _Tags(msgspec.Struct, frozen=True):
    """`GET /api/tags`."""

    models: tuple[_Tag, ...] | None = None


@dataclass(slots=True)
class OllamaAdapter:
    """One Ollama server.

    Args:
        http: makes the calls.
        url: base address.
        measure: what its processes hold.
        clock: monotonic seconds.
    """

    http: HttpClient
    url: str
    measure: Measure
    clock: Clock = MONOTONIC
    #: Models that this adapter is loading: `/api/ps` shows a model only when it serves.
    _loading: set[str] = field(default_factory=set)

    async def status(self) -> Status:
        """Return which models are loaded, and which it would have to load."""
        try:
            tags = await self._asked("/api/tags", _Tags)
            loaded = await self._asked("/api/ps", _Ps)
        except AdapterError as error:
            return Status(alive=False, detail=str(error))
        models = {tag.name: ModelState.COLD for tag in tags.models or ()}
        models |= dict.fromkeys(self._loading & set(models), ModelState.LOADING)
        models |= {one.name: ModelState.RESIDENT for one in loaded.models or ()}
        return Status(alive=True, models=models)

    async def busy(self) -> Busy:
        """Return nothing: requests for a loaded model wait where nobody sees them (facts: gpu-backends §1.2)."""
        return Busy()

    async def make_room(self, mb: int) -> Room:
        """Unload the fewest models that make `mb` by Ollama's own figures; one in use goes when its requests end."""
        try:
            loaded = await self._asked("/api/ps", _Ps)
        except AdapterError as error:
            return Room(why=str(error))
        asked: list[str] = []
        told_mb = 0
        for one in sorted(loaded.models or (), key=lambda one: one.size_vram, reverse=True):
            if told_mb >= mb:
                break
            try:
                answer = await self.http.post_json(
                    f"{self.url}/api/generate", {"model": one.name, "keep_alive": 0}, timeout_ms=_CALL_MS
                )
            except HttpError as error:
                return Room(asked=tuple(asked), why=error.detail)
            if answer.status == 200:
                asked.append(one.name)
                told_mb += one.size_vram // _MIB
        return Room(asked=tuple(asked), why="" if asked else "nothing is loaded")

    async def confirm_released(self, mb: int, *, before_mb: int, within_s: float) -> int:
        """Return how many MiB less it is measured to hold: its answer to an unload comes before that."""
        return await released_mb(self.measure, mb, before_mb=before_mb, within_s=within_s, clock=self.clock)

    async def load(self, model: str, *, within_s: float) -> None:
        """Load a model by an empty prompt.

        Raises:
            AdapterError: it is not loaded.
        """
        self._loading.add(model)
        try:
            answer = await self.http.post_json(
                f"{self.url}/api/generate", {"model": model, "stream": False}, timeout_ms=int(within_s * 1000)
            )
        except HttpError as error:
            raise AdapterError(error.detail) from None
        finally:
            self._loading.discard(model)
        if answer.status != 200:
            raise AdapterError(f"/api/generate answered {answer.status} to a load of {model}")

    async def _asked(self, path: str, type_: type[T]) -> T:
        try:
            answer = await self.http.get(self.url + path, timeout_ms=_CALL_MS)
        except HttpError as error:
            raise AdapterError(error.detail) from None
        if answer.status != 200:
            raise AdapterError(f"{path} answered {answer.status}")
        try:
            return msgspec.json.decode(answer.body, type=type_)
        except UNREADABLE as error:
            raise AdapterError(f"{path} is not what Ollama says: {error}") from None
