"""One call of `Compositor.Session`: units come in, verbs go out, and what goes out is bounded.

Acknowledgements are one number that is overwritten. Sound of a microphone is live, so the oldest goes when the
compositor does not keep up; sound of a file waits for its turn (`room`). Verbs are few, and too many end the call.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from typing import Final

import grpc.aio

from streamkit.wire.errors import Code, HeadraceError
from streamkit.wire.pb import compositor_pb2 as pb

__all__ = ["Call", "error_of_rpc"]

_VERBS: Final = 512
#: A second of a microphone in pieces of 20 ms.
_LIVE: Final = 50
_SAID_CHARS: Final = 300
_CODES: Final = {
    grpc.StatusCode.INVALID_ARGUMENT: Code.INVALID_REQUEST,
    grpc.StatusCode.OUT_OF_RANGE: Code.INVALID_REQUEST,
    grpc.StatusCode.NOT_FOUND: Code.NOT_FOUND,
    grpc.StatusCode.PERMISSION_DENIED: Code.FORBIDDEN,
    grpc.StatusCode.FAILED_PRECONDITION: Code.NOT_READY,
    grpc.StatusCode.RESOURCE_EXHAUSTED: Code.AT_CAPACITY,
    grpc.StatusCode.UNAVAILABLE: Code.NO_BACKEND,
    grpc.StatusCode.DEADLINE_EXCEEDED: Code.BACKEND_TIMEOUT,
}

SessionCall = grpc.aio.StreamStreamCall[pb.SessionRequest, pb.SessionReply]


def error_of_rpc(exc: grpc.aio.AioRpcError, *, connected: bool = False) -> HeadraceError:
    """Return what a client is told of a failed call.

    Args:
        exc: what gRPC says.
        connected: the compositor has answered before; otherwise UNAVAILABLE is gRPC's word, and has addresses.
    """
    status = exc.code()
    code = _CODES.get(status, Code.BACKEND_ERROR)
    if status is grpc.StatusCode.UNAVAILABLE:
        text = "broke off" if connected else "cannot be reached"
        return HeadraceError(Code.BACKEND_ERROR if connected else code, f"The compositor {text}. Try again shortly.")
    said = (exc.details() or "").strip()[:_SAID_CHARS]
    told = {str(key): value for key, value in exc.trailing_metadata() or ()}
    pause, param = told.get("retry-after-ms", ""), told.get("headrace-param")
    return HeadraceError(
        code,
        said or f"The compositor says {status.name}.",
        param=param if isinstance(param, str) else None,
        retry_after_ms=int(pause) if isinstance(pause, str) and pause.isdigit() else None,
    )


class Call:
    """An open session at the compositor. Made by `CompositorLink.open`.

    Args:
        call: gRPC's, whose first message was written.
        opened: the compositor's first answer.
    """

    def __init__(self, call: SessionCall, opened: pb.Opened) -> None:
        self._call = call
        self.opened = opened
        self._verbs: deque[pb.SessionRequest] = deque()
        self._live: deque[pb.SessionRequest] = deque()
        self._file: pb.SessionRequest | None = None
        self._acked = self._ack = 0
        self._news = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()
        self._over = False
        #: Pieces of live sound that were dropped.
        self.dropped = 0
        self._writing = asyncio.get_running_loop().create_task(self._write(), name="to the compositor")

    def ack(self, seq: int) -> None:
        """Say that the units up to `seq` are on the network."""
        if seq > self._ack:
            self._ack = seq
            self._news.set()

    def send(self, request: pb.SessionRequest) -> None:
        """Send a verb."""
        if len(self._verbs) >= _VERBS:
            self.cancel()
            return
        self._verbs.append(request)
        self._news.set()

    def live(self, sound: pb.Sound) -> None:
        """Send a piece of a microphone."""
        self._live.append(pb.SessionRequest(sound=sound))
        if len(self._live) > _LIVE:
            self._live.popleft()
            self.dropped += 1
        self._news.set()

    async def sound(self, sound: pb.Sound) -> None:
        """Send a piece of a file; returns when it is on its way.

        Raises:
            HeadraceError: the call is over.
        """
        while self._file is not None and not self._over:
            self._room.clear()
            await self._room.wait()
        if self._over:
            raise HeadraceError(Code.GONE, "The avatar session has ended.")
        self._file = pb.SessionRequest(sound=sound)
        self._news.set()

    async def replies(self) -> AsyncIterator[pb.SessionReply]:
        """Yield what the compositor sends, to the call's end.

        Raises:
            HeadraceError: the call failed.
        """
        try:
            while True:
                reply = await self._call.read()
                if reply is grpc.aio.EOF:
                    return
                yield reply  # type: ignore[misc]  # the stubs do not know that it is no EOF here
        except grpc.aio.AioRpcError as exc:
            raise error_of_rpc(exc, connected=True) from None

    def cancel(self) -> None:
        """End it."""
        self._over = True
        self._room.set()
        self._writing.cancel()
        self._call.cancel()

    async def ended(self) -> None:
        """Wait until nothing of it runs."""
        await asyncio.gather(self._writing, return_exceptions=True)

    async def _write(self) -> None:
        try:
            while True:
                request = self._next()
                if request is None:
                    self._news.clear()
                    await self._news.wait()
                    continue
                await self._call.write(request)
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError, grpc.aio.UsageError):
            # Whoever reads hears why.
            return
        finally:
            self._over = True
            self._room.set()

    def _next(self) -> pb.SessionRequest | None:
        if self._ack > self._acked:
            self._acked = self._ack
            return pb.SessionRequest(ack=pb.Ack(seq=self._ack))
        if self._verbs:
            return self._verbs.popleft()
        if self._live:
            return self._live.popleft()
        request, self._file = self._file, None
        self._room.set()
        return request
