"""TensorFlow Serving's model states over gRPC, on the port that predictions go to; imported where it is asked."""

from __future__ import annotations

import contextlib
from typing import Final
from urllib.parse import urlsplit

import grpc
import grpc.aio

from control.health import Finding
from streamkit.wire.backend import Backend
from streamkit.wire.pb import tfserving_pb2 as pb
from streamkit.wire.pb import tfserving_pb2_grpc as services

__all__ = ["ask_states"]

_SHORT: Final = {
    grpc.StatusCode.UNAVAILABLE: "cannot connect",
    grpc.StatusCode.DEADLINE_EXCEEDED: "no answer in time",
    grpc.StatusCode.UNIMPLEMENTED: "its port does not speak TensorFlow Serving's API",
    grpc.StatusCode.UNAUTHENTICATED: "the engine wants another key, see `api_key_env`",
    grpc.StatusCode.PERMISSION_DENIED: "the engine wants another key, see `api_key_env`",
}


async def ask_states(backend: Backend, *, api_key: str, timeout_ms: int) -> Finding:
    """Ask for each configured model; the server is up while it serves one of them.

    Args:
        backend: `grpc://host:port`, and the models to ask for: the API lists none.
        api_key: sent as a bearer token, if there is one.
        timeout_ms: for each call.
    """
    metadata = (("authorization", f"Bearer {api_key}"),) if api_key else ()
    missing: list[str] = []
    async with contextlib.AsyncExitStack() as stack:
        channel = await stack.enter_async_context(_channel(backend.url))
        stub = services.ModelServiceStub(channel)
        for model in backend.models:
            request = pb.GetModelStatusRequest(model_spec=pb.ModelSpec(name=model))
            try:
                answer = await stub.GetModelStatus(request, timeout=timeout_ms / 1000, metadata=metadata)
            except grpc.aio.AioRpcError as exc:
                if exc.code() is not grpc.StatusCode.NOT_FOUND:
                    late = exc.code() is grpc.StatusCode.DEADLINE_EXCEEDED
                    return Finding(ok=False, detail=_SHORT.get(exc.code(), exc.code().name), timed_out=late)
                missing.append(model)
                continue
            states = {status.state for status in answer.model_version_status}
            if pb.ModelVersionStatus.AVAILABLE not in states:
                missing.append(model)
    served = tuple(model for model in backend.models if model not in missing)
    detail = f"not available: {', '.join(missing)}"[:120] if missing else ""
    return Finding(ok=bool(served), models=served or None, detail=detail)


def _channel(url: str) -> grpc.aio.Channel:
    parts = urlsplit(url)
    # A channel of its own each time: a probe asks whether a connection can be made.
    options = [("grpc.use_local_subchannel_pool", 1)]
    if parts.scheme == "grpcs":
        return grpc.aio.secure_channel(parts.netloc, grpc.ssl_channel_credentials(), options=options)
    return grpc.aio.insecure_channel(parts.netloc, options=options)
