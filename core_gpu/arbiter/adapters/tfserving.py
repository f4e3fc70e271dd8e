"""TensorFlow Serving: model states over gRPC. It gives no memory back before it ends, so nothing is asked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

import grpc
from grpc import aio

from core_gpu.arbiter.adapters.contract import AdapterError, Busy, Measure, ModelState, Room, Status, released_mb
from streamkit.flow.clock import MONOTONIC, Clock
from streamkit.wire.pb import tfserving_pb2 as pb
from streamkit.wire.pb import tfserving_pb2_grpc as services

__all__ = ["TfServingAdapter"]

_CALL_S: Final = 2.0
_V: Final = pb.ModelVersionStatus
_STATES: Final[Mapping[int, ModelState]] = {
    _V.AVAILABLE: ModelState.RESIDENT,
    _V.START: ModelState.LOADING,
    _V.LOADING: ModelState.LOADING,
}


@dataclass(slots=True)
class TfServingAdapter:
    """One TensorFlow Serving.

    Args:
        url: `grpc://host:port`.
        models: whom to ask for: the API lists none.
        measure: what its process holds.
        clock: monotonic seconds.
    """

    url: str
    models: tuple[str, ...]
    measure: Measure
    clock: Clock = MONOTONIC

    async def status(self) -> Status:
        """Return each model's state; a version that loads beside one that serves leaves the model resident."""
        models: dict[str, ModelState] = {}
        async with self._channel() as channel:
            stub = services.ModelServiceStub(channel)
            for model in self.models:
                request = pb.GetModelStatusRequest(model_spec=pb.ModelSpec(name=model))
                try:
                    answer = await stub.GetModelStatus(request, timeout=_CALL_S)
                except aio.AioRpcError as error:
                    if error.code() is not grpc.StatusCode.NOT_FOUND:
                        return Status(alive=False, detail=error.code().name)
                    models[model] = ModelState.COLD
                    continue
                states = {_STATES.get(version.state, ModelState.COLD) for version in answer.model_version_status}
                models[model] = next((state for state in ModelState if state in states), ModelState.COLD)
        return Status(alive=True, models=models)

    async def busy(self) -> Busy:
        """Return nothing: a full batching queue shows in the refusals only, and those the edge sees."""
        return Busy()

    async def make_room(self, mb: int) -> Room:
        """Ask for nothing: an unloaded model's memory stays with the process (facts: gpu-backends §1.3)."""
        return Room(why="TensorFlow gives no memory back before its process ends")

    async def confirm_released(self, mb: int, *, before_mb: int, within_s: float) -> int:
        """Return how many MiB less it is measured to hold."""
        return await released_mb(self.measure, mb, before_mb=before_mb, within_s=within_s, clock=self.clock)

    async def load(self, model: str, *, within_s: float) -> None:
        """Refuse: a reload replaces the whole list of models, and their base paths are not known here.

        Raises:
            AdapterError: always.
        """
        raise AdapterError("TensorFlow Serving loads what its own model_config_file says")

    def _channel(self) -> aio.Channel:
        parts = urlsplit(self.url)
        options: list[tuple[str, Any]] = [("grpc.use_local_subchannel_pool", 1)]
        if parts.scheme == "grpcs":
            return aio.secure_channel(parts.netloc, grpc.ssl_channel_credentials(), options=options)
        return aio.insecure_channel(parts.netloc, options=options)
