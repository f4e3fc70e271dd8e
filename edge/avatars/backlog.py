"""What waits for one viewer: a few units, and which of them go when they are too many.

A raw frame may be dropped for a newer one; an encoded one may not, because all that follow need it, up to the next
keyframe. So what is lost is lost up to there, and a keyframe is never dropped unless a newer one waits behind it.
Sound goes with its unit: late sound is worse than none.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final, Literal

from edge.avatars.tick import Tick
from streamkit.wire.pb import compositor_pb2 as pb

__all__ = ["Backlog", "Fate"]

#: What became of a unit: sent, or dropped because the viewer was too slow, was interrupted, cannot decode it, or
#: because there was none for too long.
Fate = Literal["sent", "overflow", "epoch", "keyframe", "stale"]
UNITS: Final = 3


def _untold(_tick: Tick, _fate: Fate) -> None:
    return


def _unasked() -> None:
    return


class _Waiting:
    __slots__ = ("audio", "out", "tick", "video")

    def __init__(self, tick: Tick, video: pb.Video | None, audio: deque[pb.Audio]) -> None:
        self.tick = tick
        self.video = video
        self.audio = audio
        #: A part of it has left.
        self.out = False

    @property
    def empty(self) -> bool:
        return self.video is None and not self.audio


class Backlog:
    """The units that wait for one viewer.

    Args:
        codec: of the pictures that it gets; None = it takes none.
        audio: it takes sound.
        fate: told of each unit, once: what became of it.
        keyframe: called when nothing can be decoded until there is one, and again for each picture left out for it.
        bound: units that may wait.
    """

    __slots__ = ("_audio", "_bound", "_codec", "_fate", "_keyframe", "_units", "_waits")

    def __init__(
        self,
        codec: int | None,
        *,
        audio: bool,
        fate: Callable[[Tick, Fate], None],
        keyframe: Callable[[], None],
        bound: int = UNITS,
    ) -> None:
        self._codec = codec
        self._audio = audio
        self._fate = fate
        self._keyframe = keyframe
        self._bound = bound
        self._units: deque[_Waiting] = deque()
        #: For a keyframe.
        self._waits = codec is not None

    def __len__(self) -> int:
        return len(self._units)

    @property
    def waits(self) -> bool:
        """Pictures are left out until a keyframe comes."""
        return self._waits

    def put(self, tick: Tick, *, sound: bool = True) -> None:
        """Add a unit, with its sound or without; the oldest goes if they are too many."""
        video = None if self._codec is None else tick.video(self._codec)
        undecodable = False
        if video is not None and video.keyframe:
            self._waits = False
        elif video is not None and self._waits:
            video, undecodable = None, True
            self._keyframe()
        waiting = _Waiting(tick, video, deque(tick.unit.audio if self._audio and sound else ()))
        if waiting.empty:
            self._fate(tick, "keyframe" if undecodable else "sent")
            return
        self._units.append(waiting)
        if len(self._units) > self._bound:
            self._drop(self._spare(), "overflow")

    def video(self) -> tuple[Tick, pb.Video] | None:
        """Take the next picture; None = there is none."""
        for waiting in self._units:
            if (video := waiting.video) is not None:
                waiting.video = None
                self._left(waiting)
                return waiting.tick, video
        return None

    def audio(self) -> tuple[Tick, pb.Audio] | None:
        """Take the next packet of sound; None = there is none."""
        for waiting in self._units:
            if waiting.audio:
                packet = waiting.audio.popleft()
                self._left(waiting)
                return waiting.tick, packet
        return None

    def interrupt(self, epoch: int) -> None:
        """Drop all speech of epochs before this one."""
        for waiting in list(self._units):
            if waiting.tick.unit.speaking and waiting.tick.unit.epoch < epoch:
                self._drop(waiting, "epoch")

    def skip(self, tick: Tick) -> None:
        """Leave a unit out that is of an older epoch than the viewer's."""
        self._fate(tick, "epoch")
        if self._codec is not None and not self._waits and tick.video(self._codec) is not None:
            self._waits = True
            self._keyframe()

    def release(self) -> None:
        """Know nobody any more."""
        self._fate, self._keyframe = _untold, _unasked

    def clear(self) -> None:
        """The viewer is gone."""
        while self._units:
            waiting = self._units.popleft()
            if not waiting.out:
                self._fate(waiting.tick, "overflow")

    def _spare(self) -> _Waiting:
        """Return the oldest unit whose loss costs least."""
        keys = [waiting for waiting in self._units if waiting.video is not None and waiting.video.keyframe]
        last = keys[-1] if keys else None
        return next(waiting for waiting in self._units if waiting is not last)

    def _drop(self, dropped: _Waiting, fate: Fate) -> None:
        units = list(self._units)
        at = units.index(dropped)
        self._units.remove(dropped)
        if not dropped.out:
            self._fate(dropped.tick, fate)
        if dropped.video is None:
            return
        for waiting in units[at + 1 :]:
            if waiting.video is not None and waiting.video.keyframe:
                break
            waiting.video = None
        else:
            self._waits = True
            self._keyframe()
        self._tidy()

    def _left(self, waiting: _Waiting) -> None:
        """A part of a unit goes out."""
        if not waiting.out:
            waiting.out = True
            self._fate(waiting.tick, "sent")
        self._tidy()

    def _tidy(self) -> None:
        """Forget units of which nothing is left."""
        for waiting in [waiting for waiting in self._units if waiting.empty]:
            self._units.remove(waiting)
            if not waiting.out:
                self._fate(waiting.tick, "keyframe")
