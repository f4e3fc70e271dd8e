"""WebRTC-HTTP egress (draft-ietf-wish-whep, in the shape of RFC 9725): an offer in, a viewer out."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from time import monotonic
from typing import Final

from edge.avatars.gallery import Gallery
from edge.avatars.place import Place
from edge.avatars.session import Session
from edge.avatars.settings import WebRtcSettings
from edge.avatars.tick import CODECS
from edge.avatars.viewer import Viewer
from edge.endpoints.access import Caller
from edge.endpoints.admission import owner_of
from edge.endpoints.avatars.asked import OFFER, TRICKLE, Watch
from edge.endpoints.avatars.carrier import ChannelCarrier
from edge.endpoints.avatars.codecs import chosen, wanted_of
from edge.endpoints.avatars.listening import Microphone
from edge.endpoints.avatars.talk import Talk
from edge.endpoints.hello import Hello
from edge.endpoints.parts import Parts
from edge.protocol.sdp import Offer, fragment
from edge.streams.contracts import Reply
from edge.webrtc.peer import Addresses, Peer, codecs_of
from edge.webrtc.turn import IceServers
from streamkit.ops import catalog
from streamkit.wire.errors import Code, HeadraceError
from streamkit.wire.ids import Instance

__all__ = ["Whep"]

_RESUME: Final = "urn:headrace:resume"
_SESSION: Final = "urn:headrace:session"


class Whep:
    """Viewers over WebRTC.

    Args:
        parts: the edge.
        gallery: its sessions.
        settings: of WebRTC.

    Raises:
        SettingsError: the environment lacks the TURN servers' secret.
    """

    def __init__(self, parts: Parts, gallery: Gallery, settings: WebRtcSettings) -> None:
        self._parts = parts
        self._gallery = gallery
        self._settings = settings
        self._servers = IceServers(settings.ice_servers, settings.turn_secret(), settings.turn_ttl_ms // 1000)
        self._peers: dict[str, Peer] = {}
        self._ends: set[asyncio.Task[None]] = set()

    @property
    def codecs(self) -> tuple[str, ...]:
        """The codecs of pictures that are sent here, best first."""
        return self._settings.codecs

    def servers(self, user: str) -> list[tuple[bytes, bytes]]:
        """Return the servers that help viewers, as headers."""
        return [(b"link", link) for link in self._servers.links(user)]

    async def begin(
        self, watch: Watch, caller: Caller, hello: Hello, offer: Offer, *, request_id: str, place: str
    ) -> Reply:
        """Answer an offer with a viewer.

        Args:
            watch: which avatar, and whose session.
            caller: who asks.
            hello: by which each of its chats is judged.
            offer: what it sent.
            request_id: for the log.
            place: below which the viewer's own address is.

        Raises:
            HeadraceError: it is refused; nothing is held.
        """
        began = monotonic()
        offered, opus = codecs_of(offer)
        wanted = wanted_of(offer, offered, self._settings.codecs, opus=opus)
        gallery, tenant = self._gallery, caller.tenant.name
        seat = gallery.seats.take(tenant)
        viewer: Viewer | None = None
        session: Session | None = None
        try:
            session, place_of = await self._session(watch, caller, wanted, request_id)
            codec = chosen(wanted, session.opened.codecs)
            number = None if codec is None else CODECS[codec]
            audio = offer.of("audio") is not None
            viewer = gallery.enter(session, tenant, number, audio=audio, place=place_of, after=watch.after)
            viewer.on_left = _both(viewer.on_left, seat.leave)
            answer = await self._answer(viewer, hello, offer, codec, began)
        except BaseException:
            if viewer is not None:
                gallery.leave(viewer)
            else:
                seat.leave()
            if session is not None and not session.viewers and not (watch.session or watch.resume):
                session.end()
            raise
        return Reply(
            status=201, body=answer.encode(), content_type=OFFER, headers=tuple(self._headers(viewer, watch, place))
        )

    async def trickle(self, viewer: Viewer, body: bytes, if_match: bytes) -> Reply:
        """Take candidates that come later.

        Raises:
            HeadraceError: PRECONDITION_REQUIRED, PRECONDITION_FAILED, UNPROCESSABLE for an ICE restart.
        """
        peer = self._peers.get(viewer.id)
        if peer is None:
            raise HeadraceError(Code.GONE, "This viewer has left.")
        if not if_match:
            text = "Send `If-Match` with the ETag of the answer."
            raise HeadraceError(Code.PRECONDITION_REQUIRED, text, param="If-Match")
        found = fragment(body)
        if if_match == b"*" or (found.ufrag and found.ufrag != peer.their_ufrag):
            text = "ICE restarts are not done here; offer again with the resume link, and the session goes on."
            raise HeadraceError(Code.UNPROCESSABLE, text)
        if if_match != _etag(peer):
            text = "`If-Match` is not the ETag of this viewer's answer."
            raise HeadraceError(Code.PRECONDITION_FAILED, text, param="If-Match")
        await peer.add(found)
        return Reply(status=204, body=b"")

    async def stop(self) -> None:
        """Wait for connections that are being closed."""
        if self._ends:
            await asyncio.wait(list(self._ends))

    # Inside

    async def _session(
        self, watch: Watch, caller: Caller, wanted: tuple[str, ...], request_id: str
    ) -> tuple[Session, Place | None]:
        """Return the session to watch, and the place in it that is taken."""
        gallery = self._gallery
        if watch.resume:
            found = gallery.returning(watch.resume, owner_of(caller))
            if not isinstance(found, Instance):
                _same(found.session, watch)
                return found.session, found
        elif watch.session:
            joined = gallery.find(watch.session, caller.tenant.name)
            if isinstance(joined, Session):
                _same(joined, watch)
                return joined, None
        else:
            session = await gallery.begin(
                watch.avatar,
                owner_of(caller),
                wanted[:1],
                background=watch.background,
                voice=watch.voice,
                request_id=request_id,
            )
            return session, None
        # `asked.elsewhere` has looked, so it was ours a moment ago.
        raise HeadraceError(Code.GONE, "This avatar session has ended.")

    async def _answer(self, viewer: Viewer, hello: Hello, offer: Offer, codec: str | None, began: float) -> str:
        settings, limits = self._settings, self._gallery.settings
        microphone = Microphone(viewer.session) if settings.microphone else None
        talk: Talk | None = None

        def said(message: bytes) -> None:
            if talk is not None:
                talk.take(message)

        def relieved() -> None:
            if talk is not None:
                talk.relieved()

        def connected() -> None:
            took = monotonic() - began
            self._parts.metrics.histogram(catalog.AVATAR_SETUP, "webrtc").observe(took)

        peer = Peer(
            viewer,
            self._addresses(),
            message_bytes=limits.message_bytes,
            unsent_bytes=limits.unsent_bytes,
            on_message=said,
            on_sound=microphone.take if microphone is not None else None,
            on_resume=relieved,
            on_connected=connected,
        )
        talk = Talk(
            self._parts,
            hello,
            viewer,
            ChannelCarrier(peer.channel, lambda: viewer.close(_too_slow())),
            messages_per_s=limits.messages_per_s,
            max_streams=limits.max_streams,
        )
        self._peers[viewer.id] = peer
        viewer.on_left = _both(viewer.on_left, self._leaving(viewer, peer, talk))
        answer = await peer.answer(offer, codec)
        opened = viewer.session.opened
        viewer.tell(
            {
                "type": "session",
                "session": viewer.session.id,
                "viewer": viewer.id,
                "avatar": viewer.session.avatar,
                "codec": codec,
                "width": opened.width,
                "height": opened.height,
                "fps": opened.fps,
                "epoch": viewer.session.epoch,
            }
        )
        return answer

    def _leaving(self, viewer: Viewer, peer: Peer, talk: Talk) -> Callable[[], None]:
        """Return what happens when a viewer is closed."""

        async def end() -> None:
            await talk.ended()
            await peer.closed()

        def left() -> None:
            self._peers.pop(viewer.id, None)
            talk.gone()
            task = asyncio.get_running_loop().create_task(end(), name="a viewer's end")
            self._ends.add(task)
            task.add_done_callback(self._ends.discard)

        return left

    def _addresses(self) -> Addresses:
        settings = self._settings
        relay = None
        if settings.relay:
            url = next(url for url in settings.ice_servers if url.startswith("turn"))
            name, password = self._servers.credentials("edge")
            relay = (url, name, password)
        return Addresses(
            bind=settings.addresses, ports=settings.ports(), public=settings.public_addresses, relay=relay
        )

    def _headers(self, viewer: Viewer, watch: Watch, place: str) -> Iterable[tuple[bytes, bytes]]:
        yield b"location", f"{place}/{viewer.id}".encode()
        yield b"etag", _etag(self._peers[viewer.id])
        yield b"accept-patch", TRICKLE
        yield from self.servers("viewer")
        again = f"/v1/avatars/{watch.quoted}/whep"
        yield b"link", f'<{again}?resume={viewer.id}>; rel="{_RESUME}"'.encode()
        yield b"link", f'<{again}?session={viewer.session.id}>; rel="{_SESSION}"'.encode()


def _both(first: Callable[[], object], second: Callable[[], object]) -> Callable[[], None]:
    def call() -> None:
        first()
        second()

    return call


def _same(session: Session, watch: Watch) -> None:
    if session.avatar != watch.avatar:
        text = f"This session shows the avatar {session.avatar}; ask for that one."
        raise HeadraceError(Code.CONFLICT, text, param="avatar")


def _etag(peer: Peer) -> bytes:
    return f'"{peer.ufrag}"'.encode()


def _too_slow() -> HeadraceError:
    return HeadraceError(Code.SLOW_READER, "The viewer took nothing for too long.")
