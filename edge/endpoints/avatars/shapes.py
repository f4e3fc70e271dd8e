"""The shapes of requests and answers about avatars: methods, types, forms, rows."""

from __future__ import annotations

from typing import Final
from urllib.parse import quote

import msgspec

from edge.avatars.tick import CODECS
from edge.endpoints.avatars.asked import AVATARS, Watch
from edge.protocol.form import fields_of
from edge.transports.http import Scope, header
from streamkit.wire.errors import Code, HeadraceError
from streamkit.wire.pb import compositor_pb2 as pb
from streamkit.wire.unreadable import UNREADABLE

__all__ = ["check_method", "check_type", "of_form", "row_of"]

#: What is sent over a WebSocket, and over WebRTC by the names that settings have: as browsers call it.
_PICTURES: Final = {"h264": "video/H264", "vp8": "video/VP8", "vp9": "video/VP9"}
_JPEG: Final = "image/jpeg"
_SOUND: Final = "audio/opus"


def row_of(avatar: pb.Avatar, webrtc: tuple[str, ...]) -> dict[str, object]:
    """Return an avatar as the list has it.

    Args:
        avatar: as the compositor tells of it.
        webrtc: the codecs that are sent over WebRTC, best first; none = there is no WebRTC here.
    """
    made = set(avatar.codecs)
    codecs = [_PICTURES[name] for name in webrtc if CODECS[name] in made]
    path = f"{AVATARS}/{quote(avatar.avatar, safe='')}"
    links = {"whep": f"{path}/whep"} if webrtc else {}
    if pb.MJPEG in made:
        codecs.append(_JPEG)
        links["ws"] = f"{path}/ws"
    row: dict[str, object] = {
        "id": avatar.avatar,
        "object": "avatar",
        "created": avatar.created,
        "owned_by": "headrace",
        "model": avatar.model,
        "width": avatar.width,
        "height": avatar.height,
        "fps": avatar.fps,
        "codecs": [*codecs, _SOUND],
        "voices": list(avatar.voices),
        "default_voice": avatar.voice or None,
        "links": links,
        "ready": avatar.ready,
    }
    if avatar.reason:
        row["reason"] = avatar.reason
    return row


def check_method(scope: Scope, *methods: str) -> None:
    """Return if the request has one of these methods.

    Raises:
        HeadraceError: METHOD_NOT_ALLOWED.
    """
    if scope["method"] not in methods:
        allowed = ", ".join(methods)
        text = f"{scope['path'][:200]} takes {allowed}, not {scope['method']}."
        raise HeadraceError(Code.METHOD_NOT_ALLOWED, text, headers=((b"allow", allowed.encode()),))


def check_type(scope: Scope, wanted: bytes) -> None:
    """Return if the request's body is of this type.

    Raises:
        HeadraceError: UNSUPPORTED_TYPE.
    """
    kind = header(scope, b"content-type").partition(b";")[0].strip().lower()
    if kind != wanted:
        # Also what keeps a foreign web page out: a browser asks first (CORS) before it sends this type.
        said = kind[:100].decode("latin-1") or "nothing"
        text = f"Send `Content-Type: {wanted.decode()}`; this request says {said}."
        raise HeadraceError(Code.UNSUPPORTED_TYPE, text, param="Content-Type")


class _Realtime(msgspec.Struct, frozen=True):
    avatar: str = ""
    background: str = ""
    voice: str = ""


def of_form(watch: Watch, body: bytes, content_type: bytes) -> tuple[Watch, bytes]:
    """Return what a form of `sdp` and `session` asks for; other members of `session` are for other gateways.

    Raises:
        HeadraceError: INVALID_REQUEST; names the field.
    """
    fields = fields_of(body, content_type)
    if "sdp" not in fields:
        raise HeadraceError(Code.INVALID_REQUEST, "The form has no field `sdp`.", param="sdp")
    try:
        session = msgspec.json.decode(fields.get("session", b"{}"), type=_Realtime)
    except UNREADABLE as exc:
        text = f"`session` must be a JSON object: {exc}."
        raise HeadraceError(Code.INVALID_REQUEST, text, param="session") from None
    asked = msgspec.structs.replace(
        watch,
        avatar=session.avatar or watch.avatar,
        background=session.background or watch.background,
        voice=session.voice or watch.voice,
    )
    return asked, fields["sdp"]
