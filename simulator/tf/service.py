"""The gRPC half: PredictionService and ModelService."""

from __future__ import annotations

import asyncio
import contextlib
import struct
from collections.abc import AsyncIterator
from typing import Any, Final, NoReturn

import grpc
import grpc.aio

from simulator.directives import Directives, DirectivesError, parse
from simulator.engine import Engine
from simulator.tf.models import SIGNATURES, signature_def
from simulator.tf.versions import Versions
from streamkit.wire.pb import tfserving_pb2 as pb
from streamkit.wire.pb import tfserving_pb2_grpc as services

__all__ = ["Service"]

_QUEUE_FULL: Final = "The batch scheduling queue to which this task was submitted is full"
_STATUSES: Final = {
    400: (grpc.StatusCode.INVALID_ARGUMENT, "input tensor has the wrong shape"),
    401: (grpc.StatusCode.UNAUTHENTICATED, "no credentials"),
    404: (grpc.StatusCode.NOT_FOUND, "Servable not found for request: Latest(m)"),
    429: (grpc.StatusCode.RESOURCE_EXHAUSTED, "too many requests"),
    500: (grpc.StatusCode.INTERNAL, "the graph failed"),
    503: (grpc.StatusCode.UNAVAILABLE, _QUEUE_FULL),
    504: (grpc.StatusCode.DEADLINE_EXCEEDED, "the deadline is over"),
}
Context = grpc.aio.ServicerContext[Any, Any]


class Service(services.PredictionServiceServicer, services.ModelServiceServicer):
    """Both services of one server.

    Args:
        engine: settings, fault and counters.
        versions: which models there are.
    """

    def __init__(self, engine: Engine, versions: Versions) -> None:
        self._engine = engine
        self._versions = versions

    async def Predict(self, request: pb.PredictRequest, context: Context) -> pb.PredictResponse:  # noqa: N802
        """Answer one prediction, or fail as its X-Sim and the server's fault say."""
        async with self._counted():
            await self._misbehave(context)
            spec = request.model_spec
            version = await self._version(spec, context)
            signature = SIGNATURES.get(spec.signature_name or "serving_default")
            if signature is None:
                text = f'Serving signature name: "{spec.signature_name}" not found in signature def'
                await _abort(context, grpc.StatusCode.INVALID_ARGUMENT, text)
            if set(request.inputs) != set(signature.inputs):
                text = f"input size does not match signature: {len(request.inputs)}!={len(signature.inputs)}"
                await _abort(context, grpc.StatusCode.INVALID_ARGUMENT, text)
            for name, info in signature.inputs.items():
                if request.inputs[name].dtype != info.dtype:
                    text = f"input {name} has another type than the signature"
                    await _abort(context, grpc.StatusCode.INVALID_ARGUMENT, text)
            try:
                outputs = signature.run(dict(request.inputs))
            except (struct.error, IndexError, KeyError):
                await _abort(context, grpc.StatusCode.INVALID_ARGUMENT, "the inputs do not fill their shape")
            told = pb.ModelSpec(name=spec.name, signature_name=spec.signature_name)
            told.version.value = version
            return pb.PredictResponse(outputs=outputs, model_spec=told)

    async def GetModelMetadata(  # noqa: N802
        self, request: pb.GetModelMetadataRequest, context: Context
    ) -> pb.GetModelMetadataResponse:
        """Tell the signatures."""
        if list(request.metadata_field) != ["signature_def"]:
            await _abort(context, grpc.StatusCode.INVALID_ARGUMENT, "Metadata field is not supported")
        await self._version(request.model_spec, context)
        told = pb.SignatureDefMap(signature_def={name: signature_def(one) for name, one in SIGNATURES.items()})
        answer = pb.GetModelMetadataResponse(model_spec=request.model_spec)
        answer.metadata["signature_def"].Pack(told)
        return answer

    async def GetModelStatus(  # noqa: N802
        self, request: pb.GetModelStatusRequest, context: Context
    ) -> pb.GetModelStatusResponse:
        """Tell a model's versions and their states."""
        if self._engine.fault.unhealthy:
            await _abort(context, grpc.StatusCode.UNAVAILABLE, "not now")
        states = self._versions.states(request.model_spec.name)
        if not states:
            text = f"Could not find any versions of model {request.model_spec.name}"
            await _abort(context, grpc.StatusCode.NOT_FOUND, text)
        status = [
            pb.ModelVersionStatus(version=version, state=state, status=pb.StatusProto())  # type: ignore[arg-type]
            for version, state in states.items()
        ]
        return pb.GetModelStatusResponse(model_version_status=status)

    async def HandleReloadConfigRequest(  # noqa: N802
        self, request: pb.ReloadConfigRequest, context: Context
    ) -> pb.ReloadConfigResponse:
        """Load and unload; what is left out of the list goes, and its memory does not come back."""
        names = [config.name for config in request.config.model_config_list.config]
        if len(set(names)) != len(names) or "" in names:
            await _abort(context, grpc.StatusCode.INVALID_ARGUMENT, "model names must be unique and not empty")
        self._versions.reload(names)
        return pb.ReloadConfigResponse(status=pb.StatusProto())

    @contextlib.asynccontextmanager
    async def _counted(self) -> AsyncIterator[None]:
        stats = self._engine.stats
        stats.started += 1
        self._engine.others += 1
        try:
            yield
        except asyncio.CancelledError:
            stats.aborted += 1
            raise
        except BaseException:
            stats.failed += 1
            raise
        else:
            stats.finished += 1
        finally:
            self._engine.others -= 1

    async def _misbehave(self, context: Context) -> None:
        asked = await self._directives(context)
        if asked.latency_ms:
            await asyncio.sleep(asked.latency_ms / 1000)
        if asked.stall_headers:
            await asyncio.Event().wait()
        if asked.status is not None:
            code, text = _STATUSES.get(asked.status, (grpc.StatusCode.UNKNOWN, f"told to answer {asked.status}"))
            await _abort(context, code, text)

    async def _directives(self, context: Context) -> Directives:
        told = dict(context.invocation_metadata() or ())
        base = self._engine.fault.directives
        header = told.get("x-sim")
        if not isinstance(header, str):
            return base
        try:
            attempt = int(str(told.get("x-sim-attempt", "1")))
            return parse(header, name=self._engine.settings.name, attempt=attempt, base=base)
        except (DirectivesError, ValueError) as error:
            await _abort(context, grpc.StatusCode.INVALID_ARGUMENT, str(error))

    async def _version(self, spec: pb.ModelSpec, context: Context) -> int:
        """Return the version that serves."""
        version = self._versions.serving(spec.name, spec.version.value if spec.HasField("version") else None)
        if version is None:
            wanted = (
                f"Specific({spec.name}, {spec.version.value})" if spec.HasField("version") else f"Latest({spec.name})"
            )
            await _abort(context, grpc.StatusCode.NOT_FOUND, f"Servable not found for request: {wanted}")
        return version


async def _abort(context: Context, code: grpc.StatusCode, text: str) -> NoReturn:
    await context.abort(code, text)
    raise AssertionError("abort raises")
