"""Session descriptions as text (RFC 8866, RFC 8829): looked at, and changed, before the WebRTC library reads them.

The library's parser is quadratic in places and raises what it likes, so lines are counted here first. Candidates that
are names are left out: a browser hides its addresses behind `.local` names that only its own network can resolve, and
looking for them costs every connection a second, while its first packet tells the address anyway. For the same reason
no offer has all of its candidates: the library would gather none of its own for one that says so and has none left.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from typing import Final, Literal

import msgspec

from streamkit.wire.errors import Code, HeadraceError

__all__ = ["Fragment", "Media", "Offer", "fragment", "offer_of", "with_addresses"]

Direction = Literal["sendrecv", "sendonly", "recvonly", "inactive"]

_MAX_LINES: Final = 1_000
_MAX_LINE_CHARS: Final = 2_000
#: Of one kind in one section, where the library's work grows with their square.
_MAX_LIKE: Final = 128
_MAX_CANDIDATES: Final = 32
_MEDIA: Final = re.compile(r"m=(audio|video|application) \d{1,5} [A-Z/]{1,32} .{1,500}")
_DIRECTION: Final = re.compile(r"a=(sendrecv|sendonly|recvonly|inactive)")
_RTPMAP: Final = re.compile(r"a=rtpmap:\d{1,3} ([A-Za-z0-9_.-]{1,32})/\d{1,7}")
_MID: Final = re.compile(r"[!-~]{1,32}")
_SQUARED: Final = ("a=rtpmap:", "a=rtcp-fb:", "a=fmtp:", "a=ssrc:", "a=ssrc-group:", "a=extmap:")


class Media(msgspec.Struct, frozen=True, kw_only=True):
    """One section of an offer."""

    kind: Literal["audio", "video", "application"]
    mid: str
    direction: Direction
    #: Names of codecs, in upper case.
    codecs: frozenset[str]


class Offer(msgspec.Struct, frozen=True, kw_only=True):
    """An offer that the library may read."""

    text: str
    media: tuple[Media, ...]

    def of(self, kind: str) -> Media | None:
        """Return the section of a kind."""
        return next((media for media in self.media if media.kind == kind), None)


def offer_of(body: bytes) -> Offer:
    """Return a client's offer.

    Raises:
        HeadraceError: INVALID_REQUEST; says which line is wrong. UNPROCESSABLE for what we do not do: a second video.
    """
    lines = _lines(body)
    if not lines or lines[0] != "v=0":
        raise _bad("it must begin with the line `v=0`")
    kept: list[str] = []
    sections: list[list[str]] = []
    candidates = 0
    for line in lines:
        if line.startswith("m="):
            if _MEDIA.fullmatch(line) is None:
                raise _bad(f"the section `{line[:60]}` is no audio, video or application")
            sections.append([])
        elif line.startswith("a=candidate:"):
            candidates += 1
            if candidates > _MAX_CANDIDATES or not _plain(line):
                continue
        elif line == "a=end-of-candidates":
            continue
        if sections:
            sections[-1].append(line)
        else:
            kept.append(line)
    media = tuple(_media(section) for section in sections)
    if not media:
        raise _bad("it has no section (`m=`)")
    kinds = [one.kind for one in media]
    if len(set(kinds)) != len(kinds):
        text = "An offer may have one video, one audio and one data channel section; this one has two of a kind."
        raise HeadraceError(Code.UNPROCESSABLE, text, param="body")
    if len({one.mid for one in media}) != len(media):
        raise _bad("two sections have the same `a=mid:`")
    return Offer(text="\r\n".join([*kept, *(line for section in sections for line in section), ""]), media=media)


def _lines(body: bytes) -> list[str]:
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError as exc:
        raise _bad(f"byte {exc.start} is no UTF-8") from None
    lines = text.replace("\r\n", "\n").rstrip("\n").split("\n")
    if len(lines) > _MAX_LINES:
        raise _bad(f"it has {len(lines)} lines, the limit is {_MAX_LINES}")
    for number, line in enumerate(lines, 1):
        if len(line) > _MAX_LINE_CHARS or len(line) < 2 or line[1] != "=":
            raise _bad(f"line {number} is not of the form `x=value` with at most {_MAX_LINE_CHARS} characters")
    return lines


def _media(section: list[str]) -> Media:
    for start in _SQUARED:
        if (count := sum(line.startswith(start) for line in section)) > _MAX_LIKE:
            raise _bad(f"a section has {count} lines of `{start}`, the limit is {_MAX_LIKE}")
    match = _MEDIA.fullmatch(section[0])
    kind = match[1] if match else ""
    mid = next((line[6:] for line in section if line.startswith("a=mid:")), "")
    if _MID.fullmatch(mid) is None:
        raise _bad("every section needs an `a=mid:` of 1 to 32 visible characters")
    direction = next((found[1] for line in section if (found := _DIRECTION.fullmatch(line))), "")
    if not direction and kind != "application":
        # Said by its absence (RFC 8866 §6.7), which the library does not know.
        section.append("a=sendrecv")
    return msgspec.convert(
        {
            "kind": kind,
            "mid": mid,
            "direction": direction or "sendrecv",
            "codecs": {found[1].upper() for line in section if (found := _RTPMAP.match(line))},
        },
        Media,
    )


def _plain(candidate: str) -> bool:
    """Say whether a candidate is an address that UDP can be sent to."""
    words = candidate.split()
    if len(words) < 8 or words[2].lower() != "udp":
        return False
    try:
        address = ipaddress.ip_address(words[4])
    except ValueError:
        return False
    return not (address.is_multicast or address.is_unspecified)


def with_addresses(answer: str, addresses: Iterable[str]) -> str:
    """Return an answer in which each of our own candidates is there once more for each public address.

    Args:
        answer: as the library wrote it.
        addresses: under which the same ports are reached from outside; none = the answer as it is.
    """
    public = tuple(addresses)
    if not public:
        return answer
    found: list[str] = []
    for line in answer.splitlines():
        found.append(line)
        words = line.split(" ")
        if line.startswith("a=candidate:") and "host" in words:
            for number, address in enumerate(public, 1):
                foundation = f"{words[0]}{number}"
                # Tried before the address that only this network knows.
                priority = str(min(int(words[3]) + number, 2**31 - 1))
                found.append(" ".join([foundation, *words[1:3], priority, address, *words[5:]]))
    return "\r\n".join([*found, ""])


class Fragment(msgspec.Struct, frozen=True, kw_only=True):
    """Candidates that come later (RFC 8840)."""

    ufrag: str
    pwd: str
    #: Section's name and candidate, without `a=candidate:`.
    candidates: tuple[tuple[str, str], ...]
    #: There are no more.
    complete: bool


def fragment(body: bytes) -> Fragment:
    """Return what a client sends behind its offer.

    Raises:
        HeadraceError: INVALID_REQUEST; says what is wrong.
    """
    ufrag = pwd = mid = ""
    candidates: list[tuple[str, str]] = []
    complete = False
    for line in _lines(body):
        if line.startswith("a=ice-ufrag:"):
            ufrag = line[12:]
        elif line.startswith("a=ice-pwd:"):
            pwd = line[10:]
        elif line.startswith("a=mid:"):
            mid = line[6:]
        elif line == "a=end-of-candidates":
            complete = True
        elif line.startswith("a=candidate:") and len(candidates) < _MAX_CANDIDATES and _plain(line):
            candidates.append((mid, line[12:]))
    return Fragment(ufrag=ufrag, pwd=pwd, candidates=tuple(candidates), complete=complete)


def _bad(what: str) -> HeadraceError:
    return HeadraceError(Code.INVALID_REQUEST, f"The session description cannot be read: {what}.", param="body")
