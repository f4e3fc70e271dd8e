"""What a request about avatars asks for, by its path and query."""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import parse_qsl, quote

import msgspec

from streamkit.wire.errors import Code, HeadraceError

__all__ = ["AVATARS", "CALLS", "OFFER", "TRICKLE", "Path", "Watch", "path_of", "watch_of"]

AVATARS: Final = "/v1/avatars"
CALLS: Final = "/v1/realtime/calls"
OFFER: Final = b"application/sdp"
TRICKLE: Final = b"application/trickle-ice-sdpfrag"
_AVATAR: Final = re.compile(
    r"/v1/avatars/(?P<avatar>[^/]{1,256})/(?P<what>whep|ws|sound)(?:/(?P<viewer>[^/]{1,256}))?"
)
_CALL: Final = re.compile(r"/v1/realtime/calls/(?P<viewer>[^/]{1,256})(?P<hangup>/hangup)?")
_KNOWN: Final = ("session", "resume", "after", "background", "voice", "token", "avatar", "model")
_NUMBER: Final = re.compile(r"[0-9]{1,15}")
_NAME: Final = re.compile(r"[\x21-\x7e]{0,256}")


class Path(msgspec.Struct, frozen=True, kw_only=True):
    """Where a request goes."""

    #: `list`, `whep`, `ws`, `sound`, `call` or `hangup`.
    what: str
    avatar: str = ""
    viewer: str = ""


class Watch(msgspec.Struct, frozen=True, kw_only=True):
    """Which avatar is to be watched, and in whose session."""

    avatar: str
    #: Join this one.
    session: str = ""
    #: Take the place of this viewer.
    resume: str = ""
    #: The last message of its place that it has; None = it does not say.
    after: int | None = None
    background: str = ""
    voice: str = ""

    @property
    def quoted(self) -> str:
        """The avatar's name for an address."""
        return quote(self.avatar, safe="")


def path_of(path: str) -> Path | None:
    """Return where a path leads; None = to nothing of ours."""
    if path == AVATARS:
        return Path(what="list")
    if path == CALLS:
        return Path(what="call")
    if match := _AVATAR.fullmatch(path):
        if match["viewer"] and match["what"] != "whep":
            return None
        return Path(what=match["what"], avatar=match["avatar"], viewer=match["viewer"] or "")
    if match := _CALL.fullmatch(path):
        return Path(what="hangup" if match["hangup"] else "call", viewer=match["viewer"])
    return None


def watch_of(avatar: str, query: bytes) -> Watch:
    """Return what is to be watched.

    Args:
        avatar: of the path; empty = the query names it.
        query: of the address.

    Raises:
        HeadraceError: INVALID_REQUEST; names the parameter.
    """
    found = dict(parse_qsl(query.decode("latin-1"), keep_blank_values=True))
    for name, value in found.items():
        if name not in _KNOWN:
            shown = name[:40] if name.isprintable() else "?"
            text = (
                f"The parameter `{shown}` is not known here; there are session, resume, after, background and voice."
            )
            raise HeadraceError(Code.INVALID_REQUEST, text, param=shown)
        if name != "token" and _NAME.fullmatch(value) is None:
            text = f"`{name}` must be at most 256 visible ASCII characters."
            raise HeadraceError(Code.INVALID_REQUEST, text, param=name)
    if found.get("session") and found.get("resume"):
        text = "Either join a `session`, or `resume` a viewer's place in one."
        raise HeadraceError(Code.INVALID_REQUEST, text, param="resume")
    after = found.get("after", "")
    if after and (_NUMBER.fullmatch(after) is None or not found.get("resume")):
        text = "`after` goes with `resume`, and is the event_id of the last message that you have."
        raise HeadraceError(Code.INVALID_REQUEST, text, param="after")
    return Watch(
        after=int(after) if after else None,
        avatar=avatar or found.get("avatar", "") or found.get("model", ""),
        session=found.get("session", ""),
        resume=found.get("resume", ""),
        background=found.get("background", ""),
        voice=found.get("voice", ""),
    )
