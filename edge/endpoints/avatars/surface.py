"""Everything below `/v1/avatars` and `/v1/realtime/calls`: which request is whose."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Final

import msgspec

from edge.avatars.gallery import Gallery
from edge.avatars.session import Session
from edge.avatars.viewer import Viewer
from edge.endpoints.access import Caller, origin_of
from edge.endpoints.admission import owner_of
from edge.endpoints.avatars.asked import AVATARS, CALLS, OFFER, TRICKLE, Path, Watch, path_of, watch_of
from edge.endpoints.avatars.listening import pcm_of, play
from edge.endpoints.avatars.shapes import check_method, check_type, of_form, row_of
from edge.endpoints.avatars.socket import serve_viewer
from edge.endpoints.hello import hello_of
from edge.endpoints.parts import Parts
from edge.protocol.sdp import offer_of
from edge.sources.errand import packed
from edge.streams.contracts import Reply
from edge.transports.http import Receive, Scope, Send, header, read_body, send_reply
from streamkit.wire.errors import Code, HeadraceError
from streamkit.wire.ids import Instance

if TYPE_CHECKING:
    from edge.endpoints.avatars.whep import Whep

__all__ = ["Avatars"]

#: What a peer needs to judge and answer a request as if it had come there.
_FORWARDED: Final = frozenset(
    {b"authorization", b"content-type", b"if-match", b"x-headrace-priority", b"traceparent", b"tracestate"}
)
_ERRAND_S: Final = 15.0
_FORM: Final = re.compile(rb"multipart/form-data\s*;.*", re.IGNORECASE | re.DOTALL)


class Avatars:
    """The endpoints.

    Args:
        parts: the edge.
        gallery: its sessions.
        whep: viewers over WebRTC; None = there are none.
        sdp_bytes: largest session description.
    """

    def __init__(self, parts: Parts, gallery: Gallery, whep: Whep | None, *, sdp_bytes: int) -> None:
        self._parts = parts
        self._gallery = gallery
        self._whep = whep
        self._sdp_bytes = sdp_bytes

    async def start(self) -> None:
        """Begin."""
        self._gallery.start()

    async def stop(self) -> None:
        """End all sessions."""
        await self._gallery.stop()
        if self._whep is not None:
            await self._whep.stop()

    async def serve(self, name: str, scope: Scope, receive: Receive, send: Send, *, relayed: bool = False) -> None:
        """Serve one request.

        Args:
            name: its id.
            scope: ASGI's, as are `receive` and `send`.
            receive: brings the body.
            send: takes the answer.
            relayed: a peer asks, and gets the answer packed.

        Raises:
            HeadraceError: refused; nothing has been sent.
        """
        path = path_of(scope["path"])
        if path is None:
            text = f"There is nothing at {scope['path'][:200]}; avatars are listed at {AVATARS}."
            raise HeadraceError(Code.NOT_FOUND, text)
        if path.what == "ws":
            check_method(scope, "GET")
            await serve_viewer(self._parts, self._gallery, watch_of(path.avatar, scope["query_string"]), name, scope)
            return
        try:
            reply = await self._reply(path, name, scope, receive, relayed=relayed)
        except HeadraceError as error:
            if not relayed:
                raise
            reply = Reply(status=error.wire.status, body=error.envelope(), headers=tuple(error.headers()))
        if relayed:
            reply = packed(reply)
        await send_reply(send, reply, [(b"x-request-id", name.encode())], head=scope["method"] == "HEAD")

    async def _reply(self, path: Path, name: str, scope: Scope, receive: Receive, *, relayed: bool) -> Reply:
        match path.what:
            case "list":
                check_method(scope, "GET", "HEAD")
                return await self._list(self._parts.access.check(scope))
            case "sound":
                check_method(scope, "POST")
                return await self._sound(path.avatar, scope, receive, relayed=relayed)
            case "hangup":
                check_method(scope, "POST")
                return await self._leave(path, scope, relayed=relayed)
            case _:
                return await self._viewing(path, name, scope, receive, relayed=relayed)

    async def _list(self, caller: Caller) -> Reply:
        found = await self._gallery.link.avatars(caller.tenant.name)
        allowed = None if caller.claims is None else caller.claims.avatars
        webrtc = () if self._whep is None else self._whep.codecs
        rows = [row_of(avatar, webrtc) for avatar in found if allowed is None or avatar.avatar in allowed]
        return Reply(status=200, body=msgspec.json.encode({"object": "list", "data": rows}))

    # Viewers

    async def _viewing(self, path: Path, name: str, scope: Scope, receive: Receive, *, relayed: bool) -> Reply:
        method = scope["method"]
        check_method(scope, *(("PATCH", "DELETE") if path.viewer else ("POST",)), "GET", "HEAD", "OPTIONS")
        whep = self._whep
        if whep is None:
            text = f"There is no WebRTC here (edge.webrtc.enabled, or its packages); {AVATARS}/…/ws speaks WebSocket."
            raise HeadraceError(Code.NOT_FOUND, text, param="webrtc")
        if method == "OPTIONS":
            offer = [(b"accept-post", OFFER), (b"accept-patch", TRICKLE)]
            return Reply(status=200, body=b"", content_type=OFFER, headers=tuple(offer))
        if method in ("GET", "HEAD"):
            self._parts.access.check(scope)
            return Reply(status=200, body=b"", content_type=OFFER)
        if method == "POST":
            return await self._offer(whep, path, name, scope, receive, relayed=relayed)
        if method == "DELETE":
            return await self._leave(path, scope, relayed=relayed)
        caller = self._parts.access.check(scope)
        check_type(scope, TRICKLE)
        viewer = self._gallery.viewer(path.viewer, caller.tenant.name)
        return await self._with_body(
            scope, receive, viewer, relayed, self._sdp_bytes, "sdp_bytes",
            lambda body: whep.trickle(self._here(viewer), body, header(scope, b"if-match")),
        )  # fmt: skip

    async def _offer(
        self, whep: Whep, path: Path, name: str, scope: Scope, receive: Receive, *, relayed: bool
    ) -> Reply:
        caller = self._parts.access.check(scope)
        realtime = path.what == "call"
        form = realtime and _FORM.fullmatch(header(scope, b"content-type")) is not None
        if not form:
            check_type(scope, OFFER)
        watch = watch_of(path.avatar, scope["query_string"])
        if watch.avatar:
            caller.check_avatar(watch.avatar)
        there = self._elsewhere(watch, caller)

        async def begin(body: bytes) -> Reply:
            asked, sdp = of_form(watch, body, header(scope, b"content-type")) if form else (watch, body)
            if not asked.avatar:
                asked = msgspec.structs.replace(asked, avatar=await self._only_avatar(caller))
            caller.check_avatar(asked.avatar)
            place = CALLS if realtime else f"{AVATARS}/{asked.quoted}/whep"
            return await whep.begin(asked, caller, hello_of(scope), offer_of(sdp), request_id=name, place=place)

        return await self._with_body(scope, receive, there, relayed, self._sdp_bytes, "sdp_bytes", begin)

    async def _leave(self, path: Path, scope: Scope, *, relayed: bool) -> Reply:
        caller = self._parts.access.check(scope)
        try:
            viewer = self._gallery.viewer(path.viewer, caller.tenant.name)
        except HeadraceError as error:
            if error.code is not Code.GONE:
                raise
            # It closed its connection first, and that was heard: what it asks for is done.
            self._gallery.forget(path.viewer, caller.tenant.name)
            return Reply(status=200, body=b"")
        if isinstance(viewer, Instance):
            return await self._elsewhere_answers(scope, viewer, b"", relayed=relayed)
        self._gallery.leave(viewer, for_good=True)
        return Reply(status=200, body=b"")

    async def _only_avatar(self, caller: Caller) -> str:
        """Return the avatar of whoever names none: the only one.

        Raises:
            HeadraceError: INVALID_REQUEST; there are several.
        """
        found = await self._gallery.link.avatars(caller.tenant.name)
        if len(found) != 1:
            names = ", ".join(avatar.avatar for avatar in found[:20]) or "none"
            text = f"Say which `avatar`, in the address or in `session`: {names}."
            raise HeadraceError(Code.INVALID_REQUEST, text, param="avatar")
        return found[0].avatar

    # Sound

    async def _sound(self, session_id: str, scope: Scope, receive: Receive, *, relayed: bool) -> Reply:
        caller = self._parts.access.check(scope)
        session = self._gallery.find(session_id, caller.tenant.name)
        if isinstance(session, Session):
            caller.check_avatar(session.avatar)

        async def begin(body: bytes) -> Reply:
            here = session
            if isinstance(here, Instance):
                raise HeadraceError(Code.GONE, "This avatar session has ended.")
            pcm = pcm_of(body, header(scope, b"content-type"))
            epoch, number = here.epoch, here.speech.number()
            self._gallery.play(here, play(here, pcm, epoch, number), len(body), self._parts.bodies)
            answer = {"object": "speech", "speech": number, "epoch": epoch, "duration_ms": pcm.duration_ms}
            return Reply(status=202, body=msgspec.json.encode(answer))

        limit = self._gallery.settings.sound_bytes
        return await self._with_body(scope, receive, session, relayed, limit, "sound_bytes", begin)

    # Who has it

    def _elsewhere(self, watch: Watch, caller: Caller) -> object:
        if watch.resume:
            return self._gallery.returning(watch.resume, owner_of(caller))
        return self._gallery.find(watch.session, caller.tenant.name) if watch.session else None

    def _here(self, viewer: Viewer | Instance) -> Viewer:
        if isinstance(viewer, Instance):
            raise HeadraceError(Code.GONE, "This viewer has left.")
        return viewer

    async def _with_body(
        self,
        scope: Scope,
        receive: Receive,
        where: object,
        relayed: bool,
        limit_bytes: int,
        limit: str,
        do: Callable[[bytes], Awaitable[Reply]],
    ) -> Reply:
        """Read the body, and do what is asked here or have it done by the instance that can."""
        account = self._parts.bodies
        body = await read_body(scope, receive, limit_bytes=limit_bytes, account=account, limit=limit)
        try:
            if isinstance(where, Instance):
                return await self._elsewhere_answers(scope, where, bytes(body), relayed=relayed)
            return await do(bytes(body))
        finally:
            account.release(len(body))

    async def _elsewhere_answers(self, scope: Scope, owner: Instance, body: bytes, *, relayed: bool) -> Reply:
        if relayed or (not self._parts.peers.knows(owner) and not self._parts.state.away):
            raise HeadraceError(Code.GONE, "The edge that had this avatar session is gone. Offer again.")
        query = b"?" + scope["query_string"] if scope["query_string"] else b""
        headers = [pair for pair in scope["headers"] if pair[0] in _FORWARDED]
        if origin := origin_of(scope):
            headers.append((b"origin", origin))
        request = b"%b %b%b" % (scope["method"].encode(), scope["raw_path"], query)
        return await self._parts.peers.errand(owner, request, headers, body, _ERRAND_S)
