"""`inference.InferenceService` over grpc.aio: messages in, the server's answers out."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any, NoReturn

import grpc
from grpc import aio

from core_gpu.inference.registry import Registry
from core_gpu.inference.server import Answer, InferenceServer
from core_gpu.inference.shapes import EncoderShape, ModelShape
from core_gpu.inference.stream import answers
from streamkit.wire.errors import Code, HeadraceError
from streamkit.wire.pb import inference_pb2 as pb
from streamkit.wire.pb import inference_pb2_grpc

__all__ = ["InferenceService"]

_Context = aio.ServicerContext[object, object]


class InferenceService(inference_pb2_grpc.InferenceServiceServicer):
    """The service.

    Args:
        server: what answers.
    """

    def __init__(self, server: InferenceServer) -> None:
        self._server = server

    async def InferBatch(self, request: pb.InferBatchRequest, context: _Context) -> pb.InferBatchResponse:  # noqa: N802
        """Run one request."""
        try:
            return _response(request, await self._server.infer(request))
        except HeadraceError as error:
            await _abort(context, error)

    async def InferStream(  # noqa: N802
        self, requests: AsyncIterator[pb.InferStreamRequest], context: _Context
    ) -> AsyncIterator[pb.InferStreamResponse]:
        """Run many requests, answered in their order."""
        meters = self._server.meters
        meters.streams += 1
        try:
            async for response in answers(requests, self._infer, self._server.settings.stream_credit):
                yield response
        except HeadraceError as error:
            await _abort(context, error)
        finally:
            meters.streams -= 1

    async def _infer(self, request: pb.InferBatchRequest) -> pb.InferBatchResponse:
        try:
            return _response(request, await self._server.infer(request))
        except HeadraceError as error:
            return pb.InferBatchResponse(
                success=False, error=error.message, code=error.wire.grpc, retry_after_ms=error.retry_after_ms or 0
            )

    async def EncodeAudio(self, request: pb.EncodeAudioRequest, context: _Context) -> pb.EncodeAudioResponse:  # noqa: N802
        """Make features of windows of sound."""
        try:
            answer = await self._server.encode(request)
        except HeadraceError as error:
            await _abort(context, error)
        done = answer.done
        return pb.EncodeAudioResponse(
            features=b"".join(done.outputs), window_numbers=answer.shape[0], output_encoding=request.output_encoding,
            inference_time_ms=done.run_ms, queue_time_ms=done.queue_ms, worker_id=done.worker, gpu_id=answer.gpu,
        )  # fmt: skip

    async def ListModels(self, request: pb.ListModelsRequest, context: _Context) -> pb.ListModelsResponse:  # noqa: N802
        """List every model that may be asked for."""
        registry = self._server.registry
        names = await asyncio.to_thread(registry.catalogue.names)
        return pb.ListModelsResponse(models=[_info(registry, name) for name in names])

    async def LoadModel(self, request: pb.LoadModelRequest, context: _Context) -> pb.LoadModelResponse:  # noqa: N802
        """Load a model."""
        registry = self._server.registry
        gpu = request.preferred_gpu if request.pin_gpu else None
        try:
            if gpu is not None and not 0 <= gpu < len(registry.devices):
                raise HeadraceError(
                    Code.INVALID_REQUEST,
                    f"preferred_gpu: expected 0 to {len(registry.devices) - 1}, got {gpu}",
                    param="preferred_gpu",
                )
            before = registry.loaded.get(request.model_id)
            found = await registry.load(request.model_id, gpu=gpu)
            if request.pin:
                registry.pins.add(request.model_id)
        except HeadraceError as error:
            await _abort(context, error)
        took_ms = 0.0 if found is before else found.load_s * 1000
        return pb.LoadModelResponse(success=True, gpu_id=found.device.index, load_time_ms=took_ms)

    async def UnloadModel(self, request: pb.UnloadModelRequest, context: _Context) -> pb.UnloadModelResponse:  # noqa: N802
        """Unload a model, pinned or not."""
        try:
            was_there = await self._server.registry.unload(request.model_id)
        except HeadraceError as error:
            await _abort(context, error)
        return pb.UnloadModelResponse(success=was_there, error="" if was_there else "it was not loaded")

    async def GetModelStats(self, request: pb.GetModelStatsRequest, context: _Context) -> pb.GetModelStatsResponse:  # noqa: N802
        """Return what is remembered of one model, or of all that were used."""
        registry = self._server.registry
        names = [request.model_id] if request.model_id else sorted(registry.records)
        try:
            for name in names:
                registry.catalogue.entry(name)
        except HeadraceError as error:
            await _abort(context, error)
        return pb.GetModelStatsResponse(stats=[_stats(registry, name) for name in names])

    async def Health(self, request: pb.HealthRequest, context: _Context) -> pb.HealthResponse:  # noqa: N802
        """Say how it is."""
        server = self._server
        kind = server.settings.device
        gpus = [
            pb.DeviceInfo(
                gpu_id=device.index, kind=kind, models=device.models, used_mb=device.used_mb,
                total_mb=device.total_mb, workers=queue.workers, queued=len(queue),
            )
            for device, queue in zip(server.registry.devices, server.queues, strict=True)
        ]  # fmt: skip
        return pb.HealthResponse(
            healthy=True,
            status="ready",
            gpus=gpus,
            models_loaded=len(server.registry.loaded),
            queued=sum(map(len, server.queues)),
            running=sum(queue.running for queue in server.queues),
            uptime_ms=round((time.monotonic() - server.started_s) * 1000),
        )

    async def RegisterVisuals(  # noqa: N802
        self, request: pb.RegisterVisualsRequest, context: _Context
    ) -> pb.RegisterVisualsResponse:
        """Keep frames for requests to name."""
        server = self._server
        try:
            async with server.registry.use(request.model_id) as loaded:
                shape = loaded.runner.mouth().visual
            found = server.visuals.register(request.frames, request.encoding, shape)
        except HeadraceError as error:
            await _abort(context, error)
        return pb.RegisterVisualsResponse(
            visual_ref=found.ref, frames=len(found.frames), stored_bytes=found.frames.nbytes
        )

    async def DropVisuals(self, request: pb.DropVisualsRequest, context: _Context) -> pb.DropVisualsResponse:  # noqa: N802
        """Forget frames."""
        return pb.DropVisualsResponse(dropped=self._server.visuals.drop(request.visual_ref))


def _response(request: pb.InferBatchRequest, answer: Answer) -> pb.InferBatchResponse:
    done = answer.done
    _, height, width = answer.shape
    return pb.InferBatchResponse(
        outputs=[pb.RawMouthRegion(data=frame) for frame in done.outputs],
        inference_time_ms=done.run_ms, queue_time_ms=done.queue_ms, success=True, worker_id=done.worker,
        gpu_id=answer.gpu, output_encoding=request.output_encoding, width=width, height=height,
    )  # fmt: skip


def _info(registry: Registry, name: str) -> pb.ModelInfo:
    entry = registry.catalogue.entry(name)
    loaded = registry.loaded.get(name)
    record = registry.records.get(name)
    return pb.ModelInfo(
        model_id=name,
        loaded=loaded is not None,
        gpu_id=-1 if loaded is None else loaded.device.index,
        memory_mb=entry.memory_mb if loaded is None else loaded.mb,
        preferred_gpu=entry.preferred_gpu,
        pinned=registry.pinned(name),
        **_shapes(None if record is None else record.shape),
    )


def _shapes(shape: ModelShape | EncoderShape | None) -> dict[str, Any]:
    if shape is None:
        return {}
    if isinstance(shape, EncoderShape):
        return {"kind": "audio", "audio_shape": shape.mel, "output_shape": shape.output}
    return {
        "kind": "mouth", "visual_shape": shape.visual, "audio_shape": shape.audio, "output_shape": shape.output,
    }  # fmt: skip


def _stats(registry: Registry, name: str) -> pb.ModelStats:
    record = registry.records.get(name)
    if record is None:
        return pb.ModelStats(model_id=name)
    return pb.ModelStats(
        model_id=name, requests=record.requests, frames=record.frames, runs=record.runs,
        run_time_ms=record.run_s * 1000, loads=record.loads, evictions=record.evictions,
        idle_ms=round((time.monotonic() - record.used_s) * 1000), loaded=name in registry.loaded,
    )  # fmt: skip


async def _abort(context: _Context, error: HeadraceError) -> NoReturn:
    """End a call with the error's status; advice to retry goes where gRPC's own retries read it (gRFC A6)."""
    metadata: tuple[tuple[str, str], ...] = (("headrace-code", error.code.value),)
    if error.retry_after_ms is not None:
        pause = str(error.retry_after_ms)
        metadata += (("grpc-retry-pushback-ms", pause), ("retry-after-ms", pause))
    status: grpc.StatusCode = getattr(grpc.StatusCode, error.wire.grpc)
    await context.abort(status, error.message, metadata)
    raise RuntimeError("abort returned")
