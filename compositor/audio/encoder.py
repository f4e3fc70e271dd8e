"""The audio encoder: a model on the inference server that makes features of log-mel windows."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, Protocol

import grpc
import numpy as np
from grpc import aio
from numpy.typing import NDArray

from compositor.audio.windows import FEATURES
from streamkit.wire.errors import Code, HeadraceError
from streamkit.wire.pb import inference_pb2 as pb

if TYPE_CHECKING:
    from compositor.audio.meters import Meters
    from streamkit.wire.pb.inference_pb2_grpc import InferenceServiceAsyncStub

__all__ = ["BATCH", "AudioEncoder", "RemoteEncoder"]

#: Windows in one request where nothing else is said: the server's own default.
BATCH: Final = 16
_PAUSE_MS: Final = 50
_CODES: Final = {
    grpc.StatusCode.UNAVAILABLE: Code.NO_BACKEND,
    grpc.StatusCode.NOT_FOUND: Code.MODEL_NOT_FOUND,
    grpc.StatusCode.RESOURCE_EXHAUSTED: Code.SATURATED,
    grpc.StatusCode.DEADLINE_EXCEEDED: Code.BACKEND_TIMEOUT,
}

Floats = NDArray[np.float32]


class AudioEncoder(Protocol):
    """Whoever makes features."""

    async def encode(self, mels: Floats) -> Floats:
        """Return [windows, 512] for [windows, 1, 80, 16].

        Raises:
            HeadraceError: it cannot.
        """
        ...


class RemoteEncoder:
    """A model of the inference server.

    Args:
        stub: returns the calls to the server; asked for each time, because whoever has the channel may make it later.
        model: its name there.
        timeout_ms: for all windows of one call, waiting for a full server included.
        meters: counts.
        batch: windows in one request; at most the server's `max_batch`.
    """

    def __init__(
        self,
        stub: Callable[[], InferenceServiceAsyncStub],
        model: str,
        *,
        timeout_ms: int,
        meters: Meters,
        batch: int = BATCH,
    ) -> None:
        self._stub = stub
        self._model = model
        self._timeout_s = timeout_ms / 1000
        self._meters = meters
        self._size = batch

    async def encode(self, mels: Floats) -> Floats:
        """Return [windows, 512] for [windows, 1, 80, 16].

        Raises:
            HeadraceError: the server refuses, is not there, or gives no features of 512 numbers.
        """
        until = time.monotonic() + self._timeout_s
        size = self._size
        found = [await self._batch(mels[at : at + size], until) for at in range(0, len(mels), size)]
        return np.concatenate([np.empty((0, FEATURES), np.float32), *found])

    async def _batch(self, mels: Floats, until: float) -> Floats:
        request = pb.EncodeAudioRequest(
            model_id=self._model, mel=np.ascontiguousarray(mels, "<f4").tobytes(), batch_size=len(mels)
        )
        begun = time.monotonic()
        while True:
            try:
                answer = await self._stub().EncodeAudio(request, timeout=max(0.001, until - time.monotonic()))
                break
            except aio.AioRpcError as error:
                told = self._told(error)
                pause_s = (told.retry_after_ms or _PAUSE_MS) / 1000
                if told.code is not Code.SATURATED or time.monotonic() + pause_s >= until:
                    raise told from None
                # A full line there: the sound that is made ahead of its reader bridges that.
                await asyncio.sleep(pause_s)
        self._meters.encoded(len(mels), time.monotonic() - begun)
        numbers = np.frombuffer(answer.features, "<f4")
        if answer.window_numbers != FEATURES or len(numbers) != len(mels) * FEATURES:
            raise HeadraceError(
                Code.BACKEND_ERROR,
                f"the audio encoder {self._model} gives features of {answer.window_numbers} numbers,"
                f" and faces take {FEATURES}",
            )
        return numbers.reshape(-1, FEATURES)

    def _told(self, error: aio.AioRpcError) -> HeadraceError:
        metadata = {str(key): str(value) for key, value in error.trailing_metadata() or ()}
        code = _CODES.get(error.code(), Code.BACKEND_ERROR)
        pause = metadata.get("retry-after-ms", "")
        return HeadraceError(
            code,
            f"the audio encoder {self._model}: {error.details() or error.code().name}",
            retry_after_ms=int(pause) if pause.isdecimal() else None,
        )
