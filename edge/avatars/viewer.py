"""One viewer of a session, whatever transport it came by: what waits for it, and what it is told."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from time import monotonic
from typing import TYPE_CHECKING, Final, Literal

import msgspec

from edge.avatars.backlog import UNITS, Backlog, Fate
from edge.avatars.bandwidth import Bandwidth
from edge.avatars.tick import Tick
from streamkit.wire.errors import HeadraceError
from streamkit.wire.pb import compositor_pb2 as pb

if TYPE_CHECKING:
    from edge.avatars.place import Place
    from edge.avatars.session import Session

__all__ = ["Viewer"]

_SAMPLES: Final = 256


class Viewer:
    """A viewer.

    The transport sets `on_news`, `on_tell` and `on_close`, says `heard` for whatever comes from the client, and takes
    pictures and sound from `backlog`.

    Args:
        viewer_id: its public name.
        session: what it watches.
        tenant: who pays.
        codec: of its pictures; None = sound only.
        audio: it takes sound.
        units: that may wait.
    """

    def __init__(
        self, viewer_id: str, session: Session, tenant: str, codec: int | None, *, audio: bool, units: int = UNITS
    ) -> None:
        self.id = viewer_id
        self.session = session
        self.tenant = tenant
        self.codec = codec
        self.backlog = Backlog(codec, audio=audio, fate=self._fate, keyframe=self.keyframe, bound=units)
        self.began_at = monotonic()
        self.bandwidth = Bandwidth(session.wanted_bps, self.began_at)
        self.heard_at = self.began_at
        #: Media can reach it.
        self.connected = False
        #: Set when it enters: what it is told of speech goes through there.
        self.place: Place
        #: The last message of the place that it has.
        self.has = 0
        #: Messages reach it.
        self.welcomed = False
        #: It is closed, or being closed.
        self.gone = False
        #: Something waits.
        self.on_news: Callable[[], None] = _nothing
        #: Sends a message; says nothing where there is no way yet.
        self.on_tell: Callable[[bytes], None] = _ignored
        #: Ends the transport; the error is why.
        self.on_close: Callable[[HeadraceError | None], None] = _closed
        #: It is closed.
        self.on_left: Callable[[], object] = _nothing
        #: `webrtc` or `websocket`.
        self.transport: Literal["webrtc", "websocket"] = "webrtc"
        #: The session was interrupted.
        self.on_interrupt: Callable[[], None] = _nothing
        self._samples: deque[dict[str, int]] = deque(maxlen=_SAMPLES)
        self._sampling = False

    # For the session

    def put(self, tick: Tick, *, sound: bool = True) -> None:
        """Take a unit; without its sound, if that is too old."""
        if tick.unit.speaking and tick.unit.epoch < self.session.epoch:
            self.backlog.skip(tick)
            return
        self.backlog.put(tick, sound=sound)
        if len(self.backlog):
            self.on_news()

    def tell(self, message: dict[str, object]) -> None:
        """Send a message of ours."""
        self.on_tell(msgspec.json.encode(message))

    def welcome(self) -> None:
        """Messages reach it from now on; it is told what it has missed."""
        if not self.welcomed:
            self.welcomed = True
            for message in self.place.since(self.has):
                self.on_tell(message)

    def close(self, error: HeadraceError | None = None) -> None:
        """End it."""
        if not self.gone:
            self.gone = True
            self.on_close(error)
            self.on_left()
            self.session.detach(self)
            self.backlog.clear()

    def release(self) -> None:
        """Its transport is gone: know it no longer."""
        self.on_news = self.on_left = self.on_interrupt = _nothing
        self.on_tell, self.on_close = _ignored, _closed
        self.backlog.release()

    # For the transport

    def heard(self) -> None:
        """Something came from the client."""
        self.heard_at = monotonic()

    def reached(self) -> None:
        """The client's transport stands: units may flow."""
        if not self.connected and not self.gone:
            self.connected = True
            self.heard()
            self.session.reached(self)

    def keyframe(self) -> None:
        """It cannot decode anything before the next keyframe."""
        if self.codec is not None:
            self.session.keyframe(self.codec)

    def sample(self, *, on: bool) -> None:
        """Collect where the time of each unit went, or do so no more."""
        self._sampling = on
        self._samples.clear()

    def samples(self) -> list[dict[str, int]]:
        """Take what was collected."""
        found = list(self._samples)
        self._samples.clear()
        return found

    def _fate(self, tick: Tick, fate: Fate) -> None:
        unit = tick.unit
        self.session.went(tick, fate)
        if fate == "sent" and self.transport == "webrtc":  # a socket has no estimates
            self.bandwidth.sent(_size(unit, self.codec), monotonic())
        if fate == "sent" and self._sampling:
            timing = unit.timing
            self._samples.append(
                {
                    "seq": unit.seq,
                    "pts": unit.pts,
                    "needed_us": timing.needed_us,
                    "inference_us": timing.inference_us,
                    "compose_us": timing.compose_us,
                    "encode_us": timing.encode_us,
                    "skipped": timing.skipped,
                    "edge_us": round((monotonic() - tick.at) * 1_000_000),
                }
            )
        if fate == "epoch" and unit.speaking:
            self.place.unheard()
        # Of one that was closed, too: whoever takes its place is told.
        self.place.marks(unit, dropped=fate == "epoch")


def _size(unit: pb.Unit, codec: int | None) -> int:
    """Return the bytes of a unit that go to viewers of a codec."""
    pictures = sum(len(video.data) for video in unit.video if video.codec == codec)
    return pictures + sum(len(audio.data) for audio in unit.audio)


def _nothing() -> None:
    return


def _ignored(_message: bytes) -> None:
    return


def _closed(_error: HeadraceError | None) -> None:
    return
