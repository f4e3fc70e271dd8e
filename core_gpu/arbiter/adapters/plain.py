"""An engine of which only its life is known: llama-server and its kin."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from core_gpu.arbiter.adapters.contract import AdapterError, Busy, Measure, Room, Status, released_mb
from streamkit.flow.clock import MONOTONIC, Clock
from streamkit.ops.http_client import HttpClient, HttpError

__all__ = ["PlainAdapter"]

_CALL_MS: Final = 2_000


@dataclass(slots=True)
class PlainAdapter:
    """One engine behind HTTP.

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

    async def status(self) -> Status:
        """Return whether it lives; 503 of llama-server's `/health` means that it loads."""
        try:
            answer = await self.http.get(f"{self.url}/health", timeout_ms=_CALL_MS)
        except HttpError as error:
            return Status(alive=False, detail=error.detail)
        return Status(alive=answer.status < 500, detail=f"/health answered {answer.status}")

    async def busy(self) -> Busy:
        """Return nothing."""
        return Busy()

    async def make_room(self, mb: int) -> Room:
        """Ask for nothing."""
        return Room(why="it has no call for that")

    async def confirm_released(self, mb: int, *, before_mb: int, within_s: float) -> int:
        """Return how many MiB less it is measured to hold."""
        return await released_mb(self.measure, mb, before_mb=before_mb, within_s=within_s, clock=self.clock)

    async def load(self, model: str, *, within_s: float) -> None:
        """Refuse.

        Raises:
            AdapterError: always.
        """
        raise AdapterError("it has no call that loads a model")
