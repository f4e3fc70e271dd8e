"""`WS /v1/avatars/{id}/ws`: an avatar for viewers whose network lets no WebRTC through.

Pictures are JPEG, sound is Opus, in binary messages; the verbs are those of the data channel, in text. TCP delivers
late what WebRTC would leave out, so while the socket is paused pictures wait for the newest, and old sound goes.
"""

from __future__ import annotations

import asyncio
import struct
from time import monotonic
from typing import Final

from edge.avatars.gallery import Gallery
from edge.avatars.place import Place
from edge.avatars.session import Session
from edge.avatars.viewer import Viewer
from edge.endpoints.access import Caller
from edge.endpoints.admission import owner_of
from edge.endpoints.avatars.asked import Watch
from edge.endpoints.avatars.talk import Talk
from edge.endpoints.hello import hello_of
from edge.endpoints.origin import check_origin
from edge.endpoints.parts import Parts
from edge.protocol.socket_out import binary_frame, error_frame, text_frame
from edge.server.limits import SocketLimits
from edge.server.upgrade import UPGRADE, Upgrade
from edge.server.websocket import WebSocket
from edge.streams.slow_reader import SlowReader
from edge.transports.http import Scope, header
from streamkit.ops import catalog
from streamkit.wire.errors import TABLE, Code, HeadraceError
from streamkit.wire.ids import Instance
from streamkit.wire.pb import compositor_pb2 as pb

__all__ = ["serve_viewer"]

#: Before each picture or packet: its kind, and its time in 1/90,000 s (pictures) or 1/48,000 s (sound).
_HEAD: Final = struct.Struct("!BQ")
_PICTURE: Final = 1
_SOUND: Final = 2


async def serve_viewer(parts: Parts, gallery: Gallery, watch: Watch, name: str, scope: Scope) -> None:
    """Serve one viewer to its end.

    Raises:
        HeadraceError: the handshake is refused; nothing has been sent.
    """
    began = monotonic()
    upgrade = (scope.get("extensions") or {}).get(UPGRADE)
    if not isinstance(upgrade, Upgrade):
        text = "This address speaks WebSocket; WebRTC begins with POST …/whep."
        raise HeadraceError(Code.INVALID_REQUEST, text, param="Upgrade")
    if any(header(scope, kind) not in (b"", b"0") for kind in (b"content-length", b"transfer-encoding")):
        raise HeadraceError(Code.INVALID_REQUEST, "A WebSocket handshake has no body.", param="body")
    check_origin(scope, parts.cors)
    hello = hello_of(scope)
    caller = hello.caller(parts.access)
    caller.check_avatar(watch.avatar)
    seat = gallery.seats.take(caller.tenant.name)
    session: Session | None = None
    viewer: Viewer | None = None
    try:
        session, place = await _session(gallery, watch, caller, name)
        if pb.MJPEG not in session.opened.codecs:
            raise HeadraceError(Code.NOT_ACCEPTABLE, "The compositor makes no JPEG for this avatar; use WebRTC.")
        tenant = caller.tenant.name
        viewer = gallery.enter(session, tenant, pb.MJPEG, audio=True, place=place, after=watch.after)
        viewer.transport = "websocket"
        socket = upgrade.accept(
            scope,
            _limits(parts.sockets.limits, gallery),
            parts.sockets.frames,
            subprotocol=hello.subprotocol,
            headers=[(b"x-request-id", name.encode())],
        )
        settings = gallery.settings
        talk = Talk(
            parts, hello, viewer, socket, messages_per_s=settings.messages_per_s, max_streams=settings.max_streams
        )
        parts.metrics.histogram(catalog.AVATAR_SETUP, "websocket").observe(monotonic() - began)
        await _Watching(parts, gallery, viewer, socket, talk).run()
    finally:
        seat.leave()
        if viewer is not None:
            gallery.leave(viewer)
            viewer.release()
        elif session is not None and not session.viewers and not (watch.session or watch.resume):
            session.end()


async def _session(gallery: Gallery, watch: Watch, caller: Caller, name: str) -> tuple[Session, Place | None]:
    if watch.resume:
        found = gallery.returning(watch.resume, owner_of(caller))
        if not isinstance(found, Instance):
            return found.session, found
    elif watch.session:
        joined = gallery.find(watch.session, caller.tenant.name)
        if not isinstance(joined, Instance):
            return joined, None
    else:
        begun = await gallery.begin(
            watch.avatar,
            owner_of(caller),
            ("mjpeg",),
            background=watch.background,
            voice=watch.voice,
            request_id=name,
        )
        return begun, None
    text = "Another worker of this edge has that session, and a socket cannot be handed over. Connect without it."
    raise HeadraceError(Code.CONFLICT, text)


def _limits(limits: SocketLimits, gallery: Gallery) -> SocketLimits:
    return SocketLimits(
        max_message_bytes=gallery.settings.message_bytes,
        frames_per_s=4 * gallery.settings.messages_per_s,
        message_s=limits.message_s,
        ping_s=min(limits.ping_s, gallery.settings.silence_ms / 2000),
        pong_s=gallery.settings.silence_ms / 2000,
    )


class _Watching:
    """One socket."""

    def __init__(self, parts: Parts, gallery: Gallery, viewer: Viewer, socket: WebSocket, talk: Talk) -> None:
        self._parts = parts
        self._viewer = viewer
        self._socket = socket
        self._talk = talk
        self._reader = SlowReader(asyncio.get_running_loop(), parts.timings.slow_reader_s, self._stuck)
        viewer.on_news = self._news
        viewer.on_tell = lambda message: void(socket.write(text_frame(message)))
        viewer.on_close = self._close
        socket.on_message = self._said
        socket.on_pause = lambda: void(self._reader.pause(socket))
        socket.on_resume = self._relieved
        socket.on_disconnect = lambda: gallery.leave(viewer)
        socket.on_shutdown = lambda: socket.close(TABLE[Code.DRAINING].ws_close, "the gateway is stopping")

    async def run(self) -> None:
        """Return when the socket is over."""
        viewer, socket = self._viewer, self._socket
        opened = viewer.session.opened
        self._parts.sockets.open.add(socket)
        try:
            viewer.tell(
                {
                    "type": "session", "session": viewer.session.id, "viewer": viewer.id,
                    "avatar": viewer.session.avatar, "codec": "mjpeg", "width": opened.width,
                    "height": opened.height, "fps": opened.fps, "epoch": viewer.session.epoch,
                }
            )  # fmt: skip
            viewer.welcome()
            viewer.reached()
            await socket.closed()
        finally:
            socket.abort()
            self._parts.sockets.open.discard(socket)
            self._reader.stop()
            self._talk.gone()
            await self._talk.ended()

    def _said(self, message: bytes) -> None:
        self._talk.take(message)

    def _news(self) -> None:
        """Send what waits, while the socket takes it."""
        backlog, socket = self._viewer.backlog, self._socket
        while not socket.paused:
            if (sound := backlog.audio()) is not None:
                socket.write(binary_frame(_HEAD.pack(_SOUND, sound[1].pts), sound[1].data))
            elif (picture := backlog.video()) is not None:
                socket.write(binary_frame(_HEAD.pack(_PICTURE, picture[0].unit.pts), picture[1].data))
            else:
                return

    def _relieved(self) -> None:
        self._reader.resume()
        self._news()
        self._talk.relieved()

    def _stuck(self) -> None:
        self._socket.abort(TABLE[Code.SLOW_READER].ws_close)

    def _close(self, error: HeadraceError | None) -> None:
        if error is not None:
            self._socket.write(error_frame(error))
            self._socket.close(error.wire.ws_close, error.message)
        elif not self._socket.closing:
            self._socket.close(1000)


def void(_value: object) -> None:
    """Turn a call into one that returns nothing."""
