"""vLLM: health, queue and sleep. `/health` is 200 while overloaded or asleep, so it only tells life from death."""

from __future__ import annotations

import contextlib
import re
from dataclasses import dataclass, field
from typing import Final

import msgspec

from core_gpu.arbiter.adapters.contract import AdapterError, Busy, Measure, ModelState, Room, Status, released_mb
from streamkit.flow.clock import MONOTONIC, Clock
from streamkit.ops.http_client import HttpClient, HttpError, Response
from streamkit.wire.unreadable import UNREADABLE

__all__ = ["VllmAdapter", "metric"]

_CALL_MS: Final = 2_000
#: It answers when the weights are in main memory.
_SLEEP_MS: Final = 60_000
#: Requests in work and not one token: longer than any prefill should take.
_STALL_S: Final = 10.0


class _Card(msgspec.Struct, frozen=True):
    id: str


class _Cards(msgspec.Struct, frozen=True):
    """`GET /v1/models`."""

    data: tuple[_Card, ...]


class _Sleeping(msgspec.Struct, frozen=True):
    is_sleeping: bool


@dataclass(slots=True)
class VllmAdapter:
    """One vLLM server.

    Args:
        http: makes the calls.
        url: base address.
        models: what it serves; one vLLM serves one model, perhaps under several names.
        measure: what its processes hold.
        clock: monotonic seconds.
    """

    http: HttpClient
    url: str
    models: tuple[str, ...]
    measure: Measure
    clock: Clock = MONOTONIC
    _tokens: float = -1.0
    _moved_s: float = field(init=False)

    def __post_init__(self) -> None:
        self._moved_s = self.clock()

    async def status(self) -> Status:
        """Return how it is; asleep its models are cold."""
        try:
            health = await self._get("/health")
            if health.status != 200:
                return Status(alive=False, detail=f"/health answered {health.status}")
            state = ModelState.COLD if await self._sleeping() else ModelState.RESIDENT
        except HttpError as error:
            return Status(alive=False, detail=error.detail)
        if not self.models:
            await self._discover()
        return Status(alive=True, models=dict.fromkeys(self.models, state))

    async def busy(self) -> Busy:
        """Return its gauges; work without a token for ten seconds is a stall, whatever the gauges say."""
        try:
            page = await self._get("/metrics")
        except HttpError:
            return Busy()
        text = page.body.decode("utf-8", "replace")
        running, waiting = metric(text, "vllm:num_requests_running"), metric(text, "vllm:num_requests_waiting")
        if page.status != 200 or running is None or waiting is None:
            return Busy()
        tokens, now = metric(text, "vllm:generation_tokens_total") or 0.0, self.clock()
        if tokens != self._tokens or not running:
            self._tokens, self._moved_s = tokens, now
        return Busy(
            running=int(running),
            waiting=int(waiting),
            stalled=now - self._moved_s > _STALL_S,
            prefix_queries=metric(text, "vllm:prefix_cache_queries_total"),
            prefix_hits=metric(text, "vllm:prefix_cache_hits_total"),
            # One series for each rank of a data-parallel engine.
            cache_usage=max(series(text, "vllm:kv_cache_usage_perc"), default=None),
        )

    async def make_room(self, mb: int) -> Room:
        """Send it to sleep, unless it works: the default mode of `/sleep` breaks off what runs."""
        busy = await self.busy()
        if busy.running is None:
            return Room(why="it does not tell whether it works")
        if busy.running or busy.waiting:
            return Room(why=f"{busy.running + (busy.waiting or 0)} requests are in it")
        try:
            # Parameters of the query: a JSON body is ignored. Level 1 keeps the weights in main memory.
            answer = await self.http.post_json(f"{self.url}/sleep?level=1&mode=wait", b"", timeout_ms=_SLEEP_MS)
        except HttpError as error:
            return Room(why=error.detail)
        if answer.status == 404:
            return Room(why="sleep mode is off (--enable-sleep-mode, VLLM_SERVER_DEV_MODE=1)")
        if answer.status != 200:
            return Room(why=f"/sleep answered {answer.status}")
        return Room(asked=self.models)

    async def confirm_released(self, mb: int, *, before_mb: int, within_s: float) -> int:
        """Return how many MiB less it is measured to hold."""
        return await released_mb(self.measure, mb, before_mb=before_mb, within_s=within_s, clock=self.clock)

    async def load(self, model: str, *, within_s: float) -> None:
        """Wake it up.

        Raises:
            AdapterError: it does not wake.
        """
        if model not in self.models:
            raise AdapterError(f"{model} is none of its models")
        try:
            if await self._sleeping():
                answer = await self.http.post_json(f"{self.url}/wake_up", b"", timeout_ms=int(within_s * 1000))
                if answer.status != 200:
                    raise AdapterError(f"/wake_up answered {answer.status}")
                if await self._sleeping():
                    raise AdapterError("/wake_up answered 200, and it sleeps")
        except HttpError as error:
            raise AdapterError(error.detail) from None

    async def _discover(self) -> None:
        """Learn what it serves; one that wants a key for that must have its models configured."""
        with contextlib.suppress(HttpError, *UNREADABLE):
            answer = await self._get("/v1/models")
            if answer.status == 200:
                self.models = tuple(card.id for card in msgspec.json.decode(answer.body, type=_Cards).data)

    async def _sleeping(self) -> bool:
        answer = await self._get("/is_sleeping")
        if answer.status != 200:
            return False  # without sleep mode there is no such page
        try:
            return msgspec.json.decode(answer.body, type=_Sleeping).is_sleeping
        except UNREADABLE:
            return False

    async def _get(self, path: str) -> Response:
        return await self.http.get(self.url + path, timeout_ms=_CALL_MS)


def metric(page: str, name: str) -> float | None:
    """Return the sum of a metric's series on a Prometheus page; None = there is none."""
    values = series(page, name)
    return sum(values) if values else None


def series(page: str, name: str) -> list[float]:
    """Return the values of a metric's series on a Prometheus page."""
    return list(map(float, re.findall(rf"^{re.escape(name)}(?:\{{[^}}\n]*\}})? ([-+0-9.eE]+)$", page, re.MULTILINE)))
