"""Templates at the inference server: registered once in pieces, and again when it has lost them."""

from __future__ import annotations

import asyncio
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Final

from compositor.avatars.gallery import Scene
from compositor.avatars.visuals import visuals
from compositor.mouths.link import InferenceLink
from streamkit.wire.pb import inference_pb2 as pb

__all__ = ["Placed", "VisualSets"]

#: Frames in a piece: 20 MB.
_PIECE: Final = 32
_TIMEOUT_S: Final = 30.0
_SetKey = tuple[str, str, str]


@dataclass(frozen=True, slots=True)
class Placed:
    """Where one frame of a template is.

    Args:
        ref: the registered piece.
        index: in that piece.
    """

    ref: str
    index: int


class VisualSets:
    """What is registered, by avatar.

    Args:
        link: to the server.
        pool: where frames are cut out.
    """

    def __init__(self, link: InferenceLink, pool: Executor) -> None:
        self._link = link
        self._pool = pool
        self._refs: dict[_SetKey, tuple[str, ...]] = {}
        self._registering: dict[_SetKey, asyncio.Task[tuple[str, ...]]] = {}
        #: Registrations, those of lost ones among them.
        self.registered = 0

    async def placed(self, scene: Scene, frames: list[int]) -> list[Placed]:
        """Return where frames are, registered now if they are not.

        Raises:
            grpc.aio.AioRpcError: the server refuses, or does not answer.
        """
        key = _key(scene)
        refs = self._refs.get(key)
        if refs is None:
            task = self._registering.get(key)
            if task is None:
                task = self._registering[key] = asyncio.create_task(self._register(key, scene), name="register")
                task.add_done_callback(lambda done: self._done(key, done))
            refs = await asyncio.shield(task)
        return [Placed(refs[frame // _PIECE], frame % _PIECE) for frame in frames]

    def lost(self, scene: Scene) -> None:
        """Take it that the server has them no more."""
        self._refs.pop(_key(scene), None)

    async def close(self) -> None:
        """End registrations under way."""
        tasks = list(self._registering.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _register(self, key: _SetKey, scene: Scene) -> tuple[str, ...]:
        loop = asyncio.get_running_loop()
        count = len(scene.clip.frames)
        refs = []
        for first in range(0, count, _PIECE):
            piece = range(first, min(first + _PIECE, count))
            frames = await loop.run_in_executor(
                self._pool, visuals, scene.clip, scene.crops, scene.avatar.channels, piece
            )
            request = pb.RegisterVisualsRequest(model_id=scene.avatar.model, frames=frames, encoding=pb.UINT8)
            answer = await self._link.stub.RegisterVisuals(request, timeout=_TIMEOUT_S)
            refs.append(answer.visual_ref)
        self.registered += 1
        self._refs[key] = tuple(refs)
        return self._refs[key]

    def _done(self, key: _SetKey, done: asyncio.Task[tuple[str, ...]]) -> None:
        del self._registering[key]
        if not done.cancelled():
            done.exception()


def _key(scene: Scene) -> _SetKey:
    return (*scene.key, scene.avatar.model)
