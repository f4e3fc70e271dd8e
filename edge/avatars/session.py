"""One avatar session: a call at the compositor, and the viewers that share it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Callable
from time import monotonic
from typing import Final, cast

from edge.avatars.backlog import Fate
from edge.avatars.call import Call
from edge.avatars.place import Place, passed
from edge.avatars.speech import Speech
from edge.avatars.tick import Tick
from edge.avatars.viewer import Viewer
from edge.streams.kept import Owner
from streamkit.ops import log
from streamkit.wire.errors import Code, HeadraceError
from streamkit.wire.pb import compositor_pb2 as pb

__all__ = ["Session"]

_LOG = logging.getLogger("headrace.edge.avatars")
#: Requests for a keyframe of one codec that are closer together become one (docs/reference/avatars).
_KEYFRAME_S: Final = 0.3
_HELD: Final = 8
#: More than any viewer is given.
_UNTOLD_BPS: Final = 100_000_000
#: An unwatched session takes a unit so seldom.
_BREATH_S: Final = 5.0


class Session:
    """A session; `run` is its task.

    Args:
        session_id: its public name, which lets others join.
        avatar: whose face.
        owner: who began it.
        call: at the compositor.
        request_id: of the request that began it, for the log.
        codecs: that the call was opened with.
        speech_bytes: text that may wait to be spoken.
        count: told of each unit of each viewer: its fate.
        on_keyframe: a keyframe is asked for.
        on_empty: the last viewer has left.
    """

    def __init__(
        self,
        session_id: str,
        avatar: str,
        owner: Owner,
        call: Call,
        *,
        request_id: str,
        codecs: tuple[int, ...],
        speech_bytes: int,
        count: Callable[[Fate], None],
        on_keyframe: Callable[[], None],
        on_empty: Callable[[Session], None],
    ) -> None:
        self.id = session_id
        self.avatar = avatar
        self.owner = owner
        self.call = call
        self.opened = call.opened
        self.speech = Speech(call.send, self._announce, speech_bytes)
        #: In the order in which they came; the first one's bandwidth rules.
        self.viewers: list[Viewer] = []
        #: Theirs, and of those who left and may come back.
        self.places: list[Place] = []
        self.began_at = monotonic()
        #: When the last viewer left.
        self.empty_since = self.began_at
        #: What it failed with.
        self.error: HeadraceError | None = None
        self.over = False
        #: A posted sound is being given to it.
        self.playing = False
        self.units = 0
        self.keyframes = 0
        self._count = count
        self._on_keyframe = on_keyframe
        self._on_empty = on_empty
        self._request_id = request_id
        self._codecs = tuple(sorted(codecs))
        #: What came while nobody could take it: not acknowledged, so there is no more than the window.
        self._held: deque[Tick] = deque(maxlen=_HELD)
        self._went_at = self.began_at
        self._keyed_at: dict[int, float] = {}
        self._later: dict[int, asyncio.TimerHandle] = {}
        #: What the compositor was told, by codec.
        self._bitrates: dict[int, int] = {}

    @property
    def epoch(self) -> int:
        """Speech of earlier epochs is dropped."""
        return self.speech.epoch

    @property
    def wanted_bps(self) -> int:
        """What pictures take where the network does; an older compositor does not say."""
        return self.opened.bitrate_bps or _UNTOLD_BPS

    @property
    def controller(self) -> Viewer | None:
        """Whose bandwidth rules."""
        return self.viewers[0] if self.viewers else None

    async def run(self) -> None:
        """Take what the compositor sends, until it or we end the call."""
        try:
            async for reply in self.call.replies():
                if reply.HasField("unit"):
                    self._take(Tick(reply.unit, monotonic()))
                elif reply.HasField("failed"):
                    self._failed(reply.failed)
            if not self.over:
                self.error = HeadraceError(Code.BACKEND_ERROR, "The compositor ended the avatar session.")
        except HeadraceError as error:
            self.error = error
        finally:
            self.end()

    # Viewers

    def attach(self, viewer: Viewer, *, first: bool = False) -> None:
        """One more viewer; `first` = its bandwidth rules from now on."""
        self.viewers.insert(0 if first else len(self.viewers), viewer)
        self._tune()

    def detach(self, viewer: Viewer) -> None:
        """It is gone."""
        if viewer in self.viewers:
            self.viewers.remove(viewer)
            self._tune()
            if not self.viewers and not self.over:
                self._on_empty(self)

    def reached(self, viewer: Viewer) -> None:
        """A viewer's transport stands: it begins at a keyframe.

        What came before anybody could take it is old by now: its pictures are what the next ones build on, but a
        receiver that gets old sound first stays so much behind, and only speech is worth that.
        """
        while self._held:
            tick = self._held.popleft()
            passed(self.places, tick.unit, self.epoch)
            viewer.put(tick, sound=tick.unit.speaking)
        if viewer.backlog.waits and self.units and viewer.codec is not None:
            self.keyframe(viewer.codec)

    def went(self, tick: Tick, fate: Fate) -> None:
        """A viewer has sent a unit, or dropped it."""
        self._went_at = monotonic()
        self._count(fate)
        self.call.ack(tick.unit.seq)

    def breathe(self) -> None:
        """Let one unit pass where nobody has taken any for long: the compositor cuts who acknowledges nothing."""
        if self._held and monotonic() - self._went_at > _BREATH_S:
            self._went_at = monotonic()
            self._count("stale")
            unit = self._held.popleft().unit
            self.call.ack(unit.seq)
            passed(self.places, unit, self.epoch)

    def tell(self, message: dict[str, object]) -> None:
        """Tell all viewers, and those who come back."""
        for place in list(self.places):
            place.tell(message)

    def estimated(self, viewer: Viewer, bits_per_s: int) -> None:
        """A viewer's receiver says what comes through to it; the first one's is what the compositor is told."""
        if viewer.bandwidth.told(bits_per_s, monotonic()) and viewer is self.controller:
            self._steer()

    def lost(self, viewer: Viewer, share: float) -> None:
        """A viewer's receiver says what share of the packets does not come."""
        if viewer.bandwidth.lost(share, monotonic()) and viewer is self.controller:
            self._steer()

    def keyframe(self, codec: int) -> None:
        """Ask for a keyframe; requests that follow each other closely become one."""
        if self.over or codec in self._later:
            return
        wait_s = self._keyed_at.get(codec, 0.0) + _KEYFRAME_S - monotonic()
        if wait_s > 0:
            self._later[codec] = asyncio.get_running_loop().call_later(wait_s, self._key, codec)
        else:
            self._key(codec)

    # Speech

    def interrupt(self) -> None:
        """Be quiet, now."""
        epoch = self.speech.interrupt()
        for viewer in list(self.viewers):
            viewer.backlog.interrupt(epoch)
            viewer.on_interrupt()
        self.tell({"type": "interrupted", "epoch": epoch})

    # The end

    def end(self) -> None:
        """End the call and all viewers."""
        if self.over:
            return
        self.over = True
        for timer in self._later.values():
            timer.cancel()
        self._later.clear()
        self.call.cancel()
        for viewer in list(self.viewers):
            viewer.close(self.error)
        log.event(
            _LOG,
            "avatar.end",
            request_id=self._request_id,
            avatar=self.avatar,
            tenant=self.owner.tenant,
            seconds=round(monotonic() - self.began_at, 3),
            units=self.units,
            keyframes_asked=self.keyframes,
            epochs=self.epoch,
            error=self.error.code.value if self.error is not None else None,
        )

    async def ended(self) -> None:
        """Wait until nothing of the call runs."""
        with contextlib.suppress(asyncio.CancelledError):
            await self.call.ended()
        self.speech.release()

    # Inside

    def _take(self, tick: Tick) -> None:
        unit = tick.unit
        self.units += 1
        for mark in unit.marks:
            self.speech.marked(mark)
        live = [viewer for viewer in self.viewers if viewer.connected]
        if not live:
            self._held.append(tick)
            return
        passed(self.places, tick.unit, self.epoch)
        for viewer in live:
            viewer.put(tick)

    def _failed(self, failed: pb.Failed) -> None:
        code = next((code for code in Code if code.value == failed.code), Code.BACKEND_ERROR)
        error = HeadraceError(code, failed.message[:300])
        message: dict[str, object] = {"type": "playback.failed", "speech": failed.speech, "epoch": self.epoch}
        if failed.speech:
            self.speech.failed(failed.speech)
            self.tell({**message, "position_ms": 0, "message": error.message})
        else:
            log.event(_LOG, "avatar.refused", level=logging.WARNING, request_id=self._request_id, code=failed.code)

    def _announce(self, number: int, text: str, ref: str) -> None:
        message: dict[str, object] = {"type": "speech", "speech": number, "epoch": self.epoch, "text": text}
        if ref:
            message["id"] = ref
        self.tell(message)

    def _key(self, codec: int) -> None:
        self._later.pop(codec, None)
        self._keyed_at[codec] = monotonic()
        self.keyframes += 1
        self._on_keyframe()
        self.call.send(pb.SessionRequest(keyframe=pb.Keyframe(codec=_codec(codec))))

    def _tune(self) -> None:
        """Have encoded what somebody watches."""
        wanted = tuple(sorted({viewer.codec for viewer in self.viewers if viewer.codec is not None}))
        if wanted != self._codecs and wanted and not self.over:
            self._codecs = wanted
            # What is encoded anew is as it was wanted.
            self._bitrates = {codec: bps for codec, bps in self._bitrates.items() if codec in wanted}
            self.call.send(pb.SessionRequest(codecs=pb.Codecs(codecs=[_codec(codec) for codec in wanted])))
        self._steer()

    def _steer(self) -> None:
        """Have pictures take what the network of the first viewer takes."""
        first = self.controller
        if first is None or first.codec is None or self.over:
            return
        bps = first.bandwidth.target_bps
        if self._bitrates.get(first.codec, self.wanted_bps) != bps:
            self._bitrates[first.codec] = bps
            self.call.send(pb.SessionRequest(bitrate=pb.Bitrate(codec=_codec(first.codec), bitrate_bps=bps)))


def _codec(number: int) -> pb.Codec.ValueType:
    # A new type to the checker, and a plain number when it runs.
    return cast("pb.Codec.ValueType", number)
