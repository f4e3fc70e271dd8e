"""What a gRPC status of TensorFlow Serving means to a client (docs/reference/engines.md has the table)."""

from __future__ import annotations

from typing import Final

import grpc
import grpc.aio

from streamkit.wire.errors import Code, HeadraceError

__all__ = ["error_of_rpc"]

_SAID_CHARS: Final = 300
_TOO_LARGE: Final = "Received message larger than max"
_OURS: Final = {
    grpc.StatusCode.INVALID_ARGUMENT: Code.INVALID_REQUEST,
    grpc.StatusCode.OUT_OF_RANGE: Code.INVALID_REQUEST,
    # A signature that the model does not have, in some versions.
    grpc.StatusCode.FAILED_PRECONDITION: Code.INVALID_REQUEST,
    grpc.StatusCode.NOT_FOUND: Code.MODEL_NOT_FOUND,
    grpc.StatusCode.RESOURCE_EXHAUSTED: Code.SATURATED,
    grpc.StatusCode.DEADLINE_EXCEEDED: Code.BACKEND_TIMEOUT,
    # "The batch scheduling queue to which this task was submitted is full".
    grpc.StatusCode.UNAVAILABLE: Code.NO_BACKEND,
}
_CREDENTIALS: Final = (grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED)


def error_of_rpc(backend: str, exc: grpc.aio.AioRpcError, *, connected: bool) -> HeadraceError:
    """Return the error of a call that failed.

    Args:
        backend: its name, for the message.
        exc: what gRPC says.
        connected: it still stands; otherwise UNAVAILABLE is gRPC's word for its loss, and its text has addresses.
    """
    status = exc.code()
    if status is grpc.StatusCode.UNAVAILABLE and not connected:
        return HeadraceError(Code.BACKEND_ERROR, f"The connection to the backend {backend} broke off.")
    if status in _CREDENTIALS:
        text = f"The backend {backend} refused the gateway's credentials; check its api_key_env."
        return HeadraceError(Code.BACKEND_ERROR, text)
    said = (exc.details() or "").strip()[:_SAID_CHARS]
    if status is grpc.StatusCode.RESOURCE_EXHAUSTED and _TOO_LARGE in said:
        # Our own side's word for an answer over its bound; the server is not full.
        return HeadraceError(Code.BACKEND_ERROR, f"The answer of the backend {backend} is over max_response_bytes.")
    code = _OURS.get(status, Code.BACKEND_ERROR)
    text = f"The backend {backend} says {status.name}{': ' if said else ''}{said}"
    return HeadraceError(code, text, param="model" if code is Code.MODEL_NOT_FOUND else None)
