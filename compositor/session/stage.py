"""The pictures of a session: all its codecs, each following the idle loop or encoding for itself."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from dataclasses import dataclass

import av

from compositor.avatars.gallery import Scene
from compositor.contracts import TICK_MS
from compositor.encode.codecs import NAMES
from compositor.encode.encoder import Encoded
from compositor.meters import Meters
from compositor.session.painter import Order, Painted, Painter
from compositor.session.posture import Kind, Step
from compositor.session.timeline import Tick
from compositor.session.track import Plan, Track
from compositor.workshop import Workshop
from streamkit.wire.errors import Code, HeadraceError
from streamkit.wire.pb import compositor_pb2 as pb

__all__ = ["Shown", "Stage"]

#: An encoder that nobody needed for so long is closed.
_REST_TICKS = 250


@dataclass(frozen=True, slots=True, eq=False)
class Shown:
    """What a tick's pictures became.

    Args:
        video: one for each codec; none if the picture was left out.
        compose_s: drawing.
        encode_s: all codecs together.
    """

    video: tuple[pb.Video, ...] = ()
    compose_s: float = 0.0
    encode_s: float = 0.0


class Stage:
    """A session's codecs. What is asked of them counts from the next tick on.

    Args:
        scene: what is shown.
        workshop: encoders, loops, threads.
        bitrate_bps: wanted at first.
        meters: counts.
    """

    def __init__(self, scene: Scene, workshop: Workshop, bitrate_bps: int, meters: Meters) -> None:
        self._scene = scene
        self._workshop = workshop
        self._meters = meters
        self._bitrate_bps = bitrate_bps
        settings = workshop.settings
        self._keyframe_ticks = -(-settings.keyframe_min_ms // TICK_MS)
        self._painter = Painter(scene, workshop.codecs, settings.keyframe_max_ms // TICK_MS)
        self._tracks: dict[int, Track] = {}
        self._wanted: tuple[int, ...] = ()
        self._bitrates: dict[int, int] = {}
        self._loops: dict[int, asyncio.Task[None]] = {}

    @property
    def codecs(self) -> tuple[int, ...]:
        """What is encoded from the next tick on."""
        return self._wanted

    def want(self, codecs: Sequence[int]) -> None:
        """Encode exactly these; a new one begins with a keyframe."""
        self._wanted = tuple(codecs)

    def want_bitrate(self, codec: int, bitrate_bps: int) -> None:
        """Aim at another bitrate; codec `NONE` = all, and those that come."""
        settings = self._workshop.settings
        bitrate_bps = min(max(bitrate_bps, settings.min_bitrate_bps), settings.max_bitrate_bps)
        if codec == pb.NONE:
            self._bitrate_bps = bitrate_bps
            self._bitrates = dict.fromkeys(self._tracks, bitrate_bps)
        else:
            self._bitrates[codec] = bitrate_bps

    def want_keyframe(self, codec: int) -> None:
        """Take a viewer's request; one for a codec that is not encoded means nothing."""
        if codec in self._tracks:
            self._tracks[codec].want_keyframe()

    def left_out(self, *, room: bool) -> None:
        """Note that a tick has no picture; `room` False = because the viewers did not keep up."""
        for track in self._tracks.values():
            track.left_out(room=room)

    async def show(self, step: Step, tick: Tick) -> Shown:
        """Return a tick's pictures.

        Raises:
            HeadraceError: an encoder cannot be had.
        """
        self._apply()
        if tick.late or step.kind is Kind.HOLD:
            (self._meters.late if tick.late else self._meters.held).value += 1
            self.left_out(room=True)
            return Shown()
        units: dict[int, Encoded] = {}
        orders = []
        for codec, track in self._tracks.items():
            plan = track.plan(tick.number, step.position, idle=step.mouth is None)
            if plan is Plan.LOOP:
                units[codec] = track.looped(tick.number, step.position)
                self._meters.looped.value += 1
            else:
                orders.append(Order(track, plan is Plan.LIVE_KEY))
        painted = await self._paint(step, tick, orders) if orders else None
        if painted is not None:
            for order, unit in zip(orders, painted.units, strict=True):
                order.track.encoded(tick.number, unit)
                units[order.track.codec] = unit
        for codec, unit in units.items():
            self._meters.keyframes[codec].value += unit.keyframe
        video = tuple(
            pb.Video(codec=pb.Codec.ValueType(codec), data=unit.data, keyframe=unit.keyframe)
            for codec, unit in units.items()
        )
        if painted is None:
            return Shown(video)
        return Shown(video, painted.compose_s, sum(painted.encode_s))

    def close(self) -> None:
        """Let go of encoders and loops."""
        self._wanted = ()
        self._apply()

    async def _paint(self, step: Step, tick: Tick, orders: Sequence[Order]) -> Painted:
        loop = asyncio.get_running_loop()
        try:
            painted = await loop.run_in_executor(self._workshop.pool, self._painter.paint, step, tick.number, orders)
        except av.FFmpegError as error:
            names = ", ".join(NAMES[order.track.codec] for order in orders)
            raise HeadraceError(Code.INTERNAL, f"codecs: {names} cannot be encoded: {error.strerror}") from None
        self._meters.compose.observe(painted.compose_s)
        for order, took_s in zip(orders, painted.encode_s, strict=True):
            self._meters.encode[order.track.codec].observe(took_s)
            self._meters.live.value += 1
        return painted

    def _apply(self) -> None:
        """Put into force what was asked for; between two ticks no thread is at work here."""
        for codec in [codec for codec in self._tracks if codec not in self._wanted]:
            track = self._tracks.pop(codec)
            track.close()
            fetching = self._loops.pop(codec, None)
            if fetching is not None:
                fetching.cancel()
            if track.loop is not None:
                self._workshop.loops.release(self._scene, codec)
        for codec in self._wanted:
            if codec not in self._tracks:
                self._add(codec)
        for codec, bitrate_bps in self._bitrates.items():
            if codec in self._tracks:
                self._tracks[codec].retune(bitrate_bps)
        self._bitrates.clear()

    def _add(self, codec: int) -> None:
        track = Track(
            codec,
            self._bitrates.pop(codec, self._bitrate_bps),
            keyframe_ticks=self._keyframe_ticks,
            rest_ticks=_REST_TICKS,
        )
        self._tracks[codec] = track
        track.loop = self._workshop.loops.at_hand(self._scene, codec)
        if track.loop is None:
            self._loops[codec] = asyncio.create_task(self._fetch(track), name="idle loop")

    async def _fetch(self, track: Track) -> None:
        """Get the shared loop; without it the session encodes its idle face itself."""
        with contextlib.suppress(HeadraceError, av.FFmpegError):
            loop = await self._workshop.loops.hold(self._scene, track.codec)
            if self._tracks.get(track.codec) is track:
                track.loop = loop
            else:
                self._workshop.loops.release(self._scene, track.codec)
