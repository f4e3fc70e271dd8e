"""All avatar sessions of one edge, and who watches them: how many there may be, who may join, who is gone."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Coroutine, Iterable
from time import monotonic
from typing import Final, cast

from edge.avatars.backlog import Fate
from edge.avatars.link import CompositorLink
from edge.avatars.place import Place, Places
from edge.avatars.posted import posted
from edge.avatars.seats import Seats
from edge.avatars.session import Session
from edge.avatars.settings import AvatarSettings
from edge.avatars.tick import CODECS
from edge.avatars.viewer import Viewer
from edge.streams.kept import Owner
from streamkit.flow.budget import Account
from streamkit.ops import catalog
from streamkit.ops.metrics import Metrics
from streamkit.wire.errors import Code, HeadraceError
from streamkit.wire.ids import Instance, StreamIds
from streamkit.wire.pb import compositor_pb2 as pb

__all__ = ["Gallery"]

_LOG = logging.getLogger("headrace.edge.avatars")
_LOOK_S: Final = 0.5
_FATES: Final[tuple[Fate, ...]] = ("sent", "overflow", "epoch", "keyframe", "stale")


class Gallery:
    """The sessions and viewers of one edge.

    Args:
        ids: names sessions and viewers.
        link: to the compositor.
        settings: bounds.
        connect_s: a viewer must be connected within this.
        metrics: where units, sessions and viewers are counted.
    """

    def __init__(
        self, ids: StreamIds, link: CompositorLink, settings: AvatarSettings, connect_s: float, metrics: Metrics
    ) -> None:
        self.link = link
        self.settings = settings
        self._ids = ids
        self._connect_s = connect_s
        self._metrics = metrics
        self._units = {fate: metrics.counter(catalog.AVATAR_UNITS, fate) for fate in _FATES}
        self._sessions: dict[str, Session] = {}
        self._viewers: dict[str, Viewer] = {}
        #: For those who come back.
        self._places = Places(settings.resume_ms / 1000)
        self._opening = 0
        #: Viewers' places.
        self.seats = Seats(settings)
        self._tasks: set[asyncio.Task[None]] = set()
        self._looking: asyncio.Task[None] | None = None
        metrics.watch(catalog.AVATAR_SESSIONS, lambda: [((), float(len(self._sessions)))])
        metrics.watch(catalog.AVATAR_VIEWERS, self._count_viewers)

    # Sessions

    async def begin(
        self, avatar: str, owner: Owner, codecs: Iterable[str], *, background: str, voice: str, request_id: str
    ) -> Session:
        """Open a session.

        Raises:
            HeadraceError: NOT_FOUND, NOT_READY, AT_CAPACITY, or the compositor cannot be asked.
        """
        if len(self._sessions) + self._opening >= self.settings.max_sessions:
            text = f"This edge has {self.settings.max_sessions} avatar sessions; the limit is max_sessions."
            raise HeadraceError(Code.AT_CAPACITY, text)
        self._opening += 1
        numbers = [CODECS[codec] for codec in codecs]
        try:
            await self.link.avatar(avatar, owner.tenant)
            call = await self.link.open(
                pb.Open(
                    avatar=avatar,
                    tenant=owner.tenant,
                    background=background,
                    voice=voice,
                    codecs=numbers,
                    request_id=request_id,
                )
            )
        finally:
            self._opening -= 1
        session = Session(
            self._ids.new("ha"),
            avatar,
            owner,
            call,
            request_id=request_id,
            codecs=tuple(numbers),
            speech_bytes=self.settings.speech_bytes,
            count=self._count,
            on_keyframe=self._asked,
            on_empty=self._left,
        )
        self._sessions[session.id] = session
        self._run(self._hold(session), "avatar session")
        # One whose first viewer never comes must not stay.
        self._left(session)
        return session

    def find(self, session_id: str, tenant: str) -> Session | Instance:
        """Return a session that a tenant may join; or the instance that has it.

        Raises:
            HeadraceError: NOT_FOUND for a name that is forged, or another tenant's; GONE for one that has ended.
        """
        return self._found(self._ids.owner(session_id, "ha"), self._sessions.get(session_id), tenant)

    def returning(self, viewer_id: str, owner: Owner) -> Place | Instance:
        """Return the place of a viewer that comes back; or the instance that has it.

        Raises:
            HeadraceError: as `find`; another key of the same tenant is another owner.
        """
        place = self._places.of(viewer_id)
        session = place.session if place is not None else None
        found = self._found(self._ids.owner(viewer_id, "hv"), session, owner.tenant)
        # Without a place `_found` has not returned a session.
        return place if place is not None and isinstance(found, Session) else cast("Instance", found)

    def viewer(self, viewer_id: str, tenant: str) -> Viewer | Instance:
        """Return a viewer of a tenant's; or the instance that has it.

        Raises:
            HeadraceError: NOT_FOUND, GONE.
        """
        viewer = self._viewers.get(viewer_id)
        owner = self._ids.owner(viewer_id, "hv")
        if owner is None or (viewer is not None and viewer.tenant != tenant):
            raise HeadraceError(Code.NOT_FOUND, "There is no such viewer.")
        if owner != self._ids.instance:
            return owner
        if viewer is None:
            raise HeadraceError(
                Code.GONE, "This viewer has left. Offer again; with its resume link it gets its place."
            )
        return viewer

    def enter(
        self,
        session: Session,
        tenant: str,
        codec: int | None,
        *,
        audio: bool,
        place: Place | None = None,
        after: int | None = None,
    ) -> Viewer:
        """Add a viewer to a session. `leave` it.

        Args:
            session: what it watches.
            tenant: who pays.
            codec: of its pictures; None = sound only.
            audio: it takes sound.
            place: that it takes; who has it leaves. None = a new one.
            after: the last message of that place that it has; None = it does not say.
        """
        if session.over:
            raise session.error or HeadraceError(Code.GONE, "The avatar session has ended.")
        viewer = Viewer(self._ids.new("hv"), session, tenant, codec, audio=audio, units=self.settings.queue_units)
        old = place.viewer if place is not None else None
        if place is not None:
            viewer.has = place.arrived() if after is None else after
        # Who comes back rules, unless the one whose place it takes does not.
        session.attach(viewer, first=place is not None and (old is None or session.controller is old))
        self._viewers[viewer.id] = self._watched(viewer)
        self._places.sit(viewer, place)
        if old is not None:
            self.leave(old)
        return viewer

    def leave(self, viewer: Viewer, *, for_good: bool = False) -> None:
        """A viewer is gone; `for_good`: it said so, and its session waits for nobody."""
        if for_good and viewer.transport == "webrtc" and not viewer.connected:
            self._metrics.counter(catalog.AVATAR_REAPED, "unconnected").value += 1
        viewer.close()
        if for_good:
            self.forget(viewer.id, viewer.tenant)

    def play(self, session: Session, sound: Coroutine[None, None, None], size: int, account: Account) -> None:
        """Give a session posted sound in its own time; see `posted`."""
        self._run(posted(session, sound, size, account), "posted sound")

    def forget(self, viewer_id: str, tenant: str) -> None:
        """A viewer that has left will not come back: its session waits for nobody if it was the last."""
        place = self._places.of(viewer_id)
        if place is None or place.viewer is not None or place.session.owner.tenant != tenant:
            return
        self._places.drop([place])
        if not place.session.viewers:
            place.session.end()

    # The edge's life

    def start(self) -> None:
        """Begin to look for viewers that vanished."""
        self._looking = asyncio.get_running_loop().create_task(self._look(), name="avatar viewers")

    async def stop(self) -> None:
        """End everything."""
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.gather(self._looking, return_exceptions=True)
        for session in list(self._sessions.values()):
            session.error = session.error or HeadraceError(Code.DRAINING, "The gateway is stopping. Offer again.")
            session.end()
        if self._tasks:
            await asyncio.wait(list(self._tasks))
        await self.link.close()

    # Inside

    def _found(self, owner: Instance | None, session: Session | None, tenant: str) -> Session | Instance:
        if owner is None or (session is not None and session.owner.tenant != tenant):
            raise HeadraceError(Code.NOT_FOUND, "There is no such avatar session.")
        if owner != self._ids.instance:
            return owner
        if session is None or session.over:
            raise HeadraceError(Code.GONE, "This avatar session has ended. Offer again without its name.")
        return session

    async def _hold(self, session: Session) -> None:
        try:
            await session.run()
        except Exception:  # noqa: BLE001  the task's outermost frame
            _LOG.exception("an avatar session failed inside the gateway")
            session.error = HeadraceError(Code.INTERNAL, "The gateway failed in this avatar session.")
            session.end()
        finally:
            await session.ended()
            self._sessions.pop(session.id, None)
            self._places.drop(session.places)

    def _left(self, session: Session) -> None:
        """Nobody watches a session: end it if that stays so for the whole window."""
        session.empty_since = since = monotonic()

        def end() -> None:
            if not session.viewers and session.empty_since == since:
                session.end()

        asyncio.get_running_loop().call_later(self.settings.resume_ms / 1000, end)

    async def _look(self) -> None:
        """Close viewers that are silent, or never came."""
        while True:
            await asyncio.sleep(_LOOK_S)
            now = monotonic()
            self._places.tidy()
            for session in list(self._sessions.values()):
                session.breathe()
            for viewer in list(self._viewers.values()):
                if viewer.gone or viewer.transport != "webrtc":  # a socket has pings
                    continue
                if viewer.connected and now - viewer.heard_at > self.settings.silence_ms / 1000:
                    self._reap(viewer, "silent")
                elif not viewer.connected and now - viewer.began_at > self._connect_s:
                    self._reap(viewer, "unconnected")

    def _reap(self, viewer: Viewer, why: str) -> None:
        self._metrics.counter(catalog.AVATAR_REAPED, why).value += 1
        self.leave(viewer)

    def _watched(self, viewer: Viewer) -> Viewer:
        def left() -> None:
            self._viewers.pop(viewer.id, None)
            viewer.place.leave(viewer)

        viewer.on_left = left
        return viewer

    def _run(self, what: Coroutine[None, None, None], name: str) -> None:
        task = asyncio.get_running_loop().create_task(what, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _count(self, fate: Fate) -> None:
        self._units[fate].value += 1

    def _asked(self) -> None:
        self._metrics.counter(catalog.AVATAR_KEYFRAMES).value += 1

    def _count_viewers(self) -> Iterable[tuple[tuple[str, ...], float]]:
        found = Counter(viewer.transport for viewer in self._viewers.values())
        return [((transport,), float(found[transport])) for transport in ("webrtc", "websocket")]
