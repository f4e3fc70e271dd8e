"""The inference server: models loaded and idle, requests in line and in work, over its own gRPC service."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import urlsplit

import grpc
from grpc import aio

from core_gpu.arbiter.adapters.contract import AdapterError, Busy, Measure, ModelState, Room, Status, released_mb
from streamkit.flow.clock import MONOTONIC, Clock
from streamkit.wire.pb import inference_pb2 as pb
from streamkit.wire.pb import inference_pb2_grpc as services

__all__ = ["InferenceAdapter"]

_CALL_S: Final = 2.0
#: An unload waits for those who use the model: a run and what is in line for it, not a conversation.
_UNLOAD_S: Final = 10.0


@dataclass(slots=True)
class InferenceAdapter:
    """One inference server.

    Args:
        url: `grpc://host:port`.
        measure: what its process holds.
        clock: monotonic seconds.
    """

    url: str
    measure: Measure
    clock: Clock = MONOTONIC
    #: Models that this adapter is loading: the server lists a model as loaded only when it serves.
    _loading: set[str] = field(default_factory=set)

    async def status(self) -> Status:
        """Return which models are loaded, and which it would have to load."""
        async with self._channel() as channel:
            stub = services.InferenceServiceStub(channel)
            try:
                health = await stub.Health(pb.HealthRequest(), timeout=_CALL_S)
                listed = await stub.ListModels(pb.ListModelsRequest(), timeout=_CALL_S)
            except aio.AioRpcError as error:
                return Status(alive=False, detail=error.code().name)
        states = {one.model_id: ModelState.RESIDENT if one.loaded else ModelState.COLD for one in listed.models}
        states |= {name: ModelState.LOADING for name in self._loading if states.get(name) is ModelState.COLD}
        return Status(alive=health.healthy, models=states, detail=health.status)

    async def busy(self) -> Busy:
        """Return its requests in work and in line."""
        async with self._channel() as channel:
            try:
                health = await services.InferenceServiceStub(channel).Health(pb.HealthRequest(), timeout=_CALL_S)
            except aio.AioRpcError:
                return Busy()
        return Busy(running=health.running, waiting=health.queued)

    async def make_room(self, mb: int) -> Room:
        """Unload the models that were longest without a request, until they make `mb`; pinned ones stay."""
        asked: list[str] = []
        told_mb = 0
        async with self._channel() as channel:
            stub = services.InferenceServiceStub(channel)
            try:
                listed = await stub.ListModels(pb.ListModelsRequest(), timeout=_CALL_S)
                stats = await stub.GetModelStats(pb.GetModelStatsRequest(), timeout=_CALL_S)
                idle_ms = {one.model_id: one.idle_ms for one in stats.stats}
                free = [one for one in listed.models if one.loaded and not one.pinned]
                for one in sorted(free, key=lambda one: idle_ms.get(one.model_id, 0), reverse=True):
                    if told_mb >= mb:
                        break
                    request = pb.UnloadModelRequest(model_id=one.model_id)
                    if (await stub.UnloadModel(request, timeout=_UNLOAD_S)).success:
                        asked.append(one.model_id)
                        told_mb += one.memory_mb
            except aio.AioRpcError as error:
                return Room(asked=tuple(asked), why=error.details() or error.code().name)
        return Room(asked=tuple(asked), why="" if asked else "nothing is loaded that is not pinned")

    async def confirm_released(self, mb: int, *, before_mb: int, within_s: float) -> int:
        """Return how many MiB less it is measured to hold."""
        return await released_mb(self.measure, mb, before_mb=before_mb, within_s=within_s, clock=self.clock)

    async def load(self, model: str, *, within_s: float) -> None:
        """Have a model loaded.

        Raises:
            AdapterError: it is not.
        """
        self._loading.add(model)
        try:
            async with self._channel() as channel:
                stub = services.InferenceServiceStub(channel)
                await stub.LoadModel(pb.LoadModelRequest(model_id=model), timeout=within_s)
        except aio.AioRpcError as error:
            raise AdapterError(error.details() or error.code().name) from None
        finally:
            self._loading.discard(model)

    def _channel(self) -> aio.Channel:
        parts = urlsplit(self.url)
        options: list[tuple[str, Any]] = [("grpc.use_local_subchannel_pool", 1)]
        if parts.scheme == "grpcs":
            return aio.secure_channel(parts.netloc, grpc.ssl_channel_credentials(), options=options)
        return aio.insecure_channel(parts.netloc, options=options)
