"""One session's requests for mouths: a stream with credit, opened when it is needed, given up when it fails."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Final

import numpy as np
from grpc import aio
from numpy.typing import NDArray

from compositor.avatars.gallery import Scene
from compositor.mouths.link import InferenceLink
from compositor.mouths.visual_sets import Placed, VisualSets
from compositor.picture.paste import MOUTH_BYTES
from streamkit.flow.clock import MONOTONIC, Clock
from streamkit.wire.errors import Code, HeadraceError
from streamkit.wire.pb import inference_pb2 as pb

__all__ = ["MouthStream", "Wanted"]

_LOST: Final = "NOT_FOUND"
_Call = aio.StreamStreamCall[pb.InferStreamRequest, pb.InferStreamResponse]


@dataclass(frozen=True, slots=True, eq=False)
class Wanted:
    """One mouth to be made.

    Args:
        frame: of the template.
        features: float32, as the model wants them.
    """

    frame: int
    features: NDArray[np.float32]


class MouthStream:
    """Asks for mouths; requests may be asked at the same time, their order is kept.

    Args:
        link: to the server.
        sets: the registered templates.
        scene: whose face.
        wait_s: how long an answer may take.
        retry_s: for how long nothing is asked after a failure.
        clock: the time.
    """

    def __init__(
        self,
        link: InferenceLink,
        sets: VisualSets,
        scene: Scene,
        *,
        wait_s: float,
        retry_s: float,
        clock: Clock = MONOTONIC,
    ) -> None:
        self._link, self._sets, self._scene = link, sets, scene
        self._wait_s, self._retry_s = wait_s, retry_s
        self._clock = clock
        self._not_before = clock()
        self._opening = asyncio.Lock()
        self._run: _Run | None = None

    async def ask(self, wanted: Sequence[Wanted]) -> list[bytes]:
        """Return mouths: each `MOUTH_BYTES`, in the order of `wanted`.

        Raises:
            HeadraceError: the server does not answer, or not in time, or refuses; it is left alone for a while then.
        """
        if not self._link.answers:
            # Known from asking it how it is: nothing is cut out and sent for nobody.
            raise HeadraceError(Code.NO_BACKEND, "the inference server does not answer")
        if self._clock() < self._not_before:
            raise HeadraceError(Code.BACKEND_ERROR, "the inference server failed a moment ago")
        try:
            async with asyncio.timeout(self._wait_s):
                try:
                    return await self._asked(wanted)
                except _LostError:
                    self._sets.lost(self._scene)
                    return await self._asked(wanted)
        except TimeoutError:
            self.fail()
            raise HeadraceError(
                Code.BACKEND_TIMEOUT, f"no mouth within {self._wait_s * 1000:.0f} ms (inference_wait_ms)"
            ) from None
        except aio.AioRpcError as error:
            self.fail()
            raise HeadraceError(Code.BACKEND_ERROR, f"inference server: {error.details() or error.code()}") from None
        except HeadraceError:
            self.fail()
            raise

    def fail(self) -> None:
        """Give the stream up; whatever is asked of it fails, and nothing is asked for a while."""
        self._not_before = self._clock() + self._retry_s
        self.cancel()

    def cancel(self) -> None:
        """Give the stream up: what is asked of it is wanted no more."""
        if self._run is not None:
            self._run.cancel()
            self._run = None

    async def aclose(self) -> None:
        """End it and let go of everything."""
        run, self._run = self._run, None
        if run is not None:
            run.cancel()
            await run.ended()

    async def _asked(self, wanted: Sequence[Wanted]) -> list[bytes]:
        places = await self._sets.placed(self._scene, [one.frame for one in wanted])
        pairs = list(zip(places, wanted, strict=True))
        run = await self._opened()
        asked = [run.ask(self._request([*group])) for _, group in groupby(pairs, key=lambda pair: pair[0].ref)]
        answers = await asyncio.gather(*asked)
        return [mouth for answer in answers for mouth in _mouths(answer)]

    def _request(self, pairs: Sequence[tuple[Placed, Wanted]]) -> pb.InferBatchRequest:
        return pb.InferBatchRequest(
            model_id=self._scene.avatar.model,
            visual_ref=pairs[0][0].ref,
            visual_index=[place.index for place, _ in pairs],
            audio_features=b"".join(one.features.tobytes() for _, one in pairs),
            batch_size=len(pairs),
            output_encoding=pb.UINT8,
        )

    async def _opened(self) -> _Run:
        async with self._opening:
            if self._run is None or self._run.over:
                # Requests are written one by one, which the generated types do not know of.
                open_: Any = self._link.stub.InferStream
                self._run = _Run(open_())
            return self._run


class _LostError(Exception):
    """The server has the registered frames no more."""


class _Run:
    """One stream, from its opening to its end."""

    def __init__(self, call: _Call) -> None:
        self._call = call
        self._credit = 0
        self._changed = asyncio.Event()
        self._writing = asyncio.Lock()
        self._waiting: dict[int, asyncio.Future[pb.InferBatchResponse]] = {}
        self._seq = 0
        self._problem: aio.AioRpcError | None = None
        self.over = False
        self._reading = asyncio.create_task(self._read(), name="mouths")

    async def ask(self, request: pb.InferBatchRequest) -> pb.InferBatchResponse:
        """Send a request when there is credit for it, and return its answer.

        Raises:
            grpc.aio.AioRpcError: the stream broke.
            HeadraceError: it was given up.
        """
        answer: asyncio.Future[pb.InferBatchResponse] = asyncio.get_running_loop().create_future()
        seq = 0
        try:
            async with self._writing:
                # In the order of asking, one at a time: credit is waited for by the first in line.
                while not self._credit and not self.over:
                    self._changed.clear()
                    await self._changed.wait()
                if self.over:
                    raise self._ending()
                self._credit -= 1
                self._seq += 1
                seq = self._seq
                self._waiting[seq] = answer
                try:
                    await self._call.write(pb.InferStreamRequest(seq=seq, request=request))
                except asyncio.InvalidStateError:
                    # The call has ended meanwhile, and its reader knows why.
                    await asyncio.wait({self._reading})
                    raise self._ending() from None
            return await answer
        finally:
            self._waiting.pop(seq, None)
            if answer.done() and not answer.cancelled():
                # Whoever asked may have left while it was written.
                answer.exception()

    def cancel(self) -> None:
        """Give it up."""
        self._call.cancel()
        self._reading.cancel()

    async def ended(self) -> None:
        """Return when nothing of it runs any more."""
        await asyncio.gather(self._reading, return_exceptions=True)

    async def _read(self) -> None:
        try:
            while (message := await self._call.read()) is not aio.EOF:
                if not isinstance(message, pb.InferStreamResponse):
                    break
                if message.HasField("response"):
                    answer = self._waiting.pop(message.seq, None)
                    if answer is not None and not answer.done():
                        answer.set_result(message.response)
                self._credit += message.credit
                self._changed.set()
        except aio.AioRpcError as error:
            self._problem = error
        finally:
            self.over = True
            for answer in self._waiting.values():
                if not answer.done():
                    answer.set_exception(self._ending())
            # Whoever waits for credit is told, too.
            self._changed.set()

    def _ending(self) -> Exception:
        return self._problem or HeadraceError(Code.BACKEND_ERROR, "the inference server ended the stream")


def _mouths(answer: pb.InferBatchResponse) -> list[bytes]:
    if not answer.success:
        if answer.code == _LOST and "visual_ref" in answer.error:
            raise _LostError
        code = Code.SATURATED if answer.code == "RESOURCE_EXHAUSTED" else Code.BACKEND_ERROR
        raise HeadraceError(code, f"inference server: {answer.error}")
    mouths = [output.data for output in answer.outputs]
    for mouth in mouths:
        if len(mouth) != MOUTH_BYTES:
            raise HeadraceError(
                Code.BACKEND_ERROR,
                f"inference server: expected mouths of {MOUTH_BYTES} bytes (320 x 320 x 3), got {len(mouth)}",
            )
    return mouths
