"""What an avatar's signalling needs: which avatars there are, and an offer that a gateway can answer.

The offer is a browser's, cut to what must be there; its fingerprint is nobody's, because no media follows.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from loadtest.locust.connection import Connection

__all__ = ["avatars", "offer"]

_FINGERPRINT_BYTES: Final = 32
_OFFER: Final = """\
v=0
o=- {session} 2 IN IP4 127.0.0.1
s=-
t=0 0
a=group:BUNDLE 0 1
a=msid-semantic: WMS
m=audio 9 UDP/TLS/RTP/SAVPF 111
c=IN IP4 0.0.0.0
a=rtcp:9 IN IP4 0.0.0.0
a=ice-ufrag:{ufrag}
a=ice-pwd:{pwd}
a=fingerprint:sha-256 {fingerprint}
a=setup:actpass
a=mid:0
a=recvonly
a=rtcp-mux
a=rtpmap:111 opus/48000/2
a=fmtp:111 minptime=10;useinbandfec=1
m=video 9 UDP/TLS/RTP/SAVPF 96 102
c=IN IP4 0.0.0.0
a=rtcp:9 IN IP4 0.0.0.0
a=ice-ufrag:{ufrag}
a=ice-pwd:{pwd}
a=fingerprint:sha-256 {fingerprint}
a=setup:actpass
a=mid:1
a=recvonly
a=rtcp-mux
a=rtcp-rsize
a=rtpmap:96 VP8/90000
a=rtcp-fb:96 goog-remb
a=rtcp-fb:96 ccm fir
a=rtcp-fb:96 nack
a=rtcp-fb:96 nack pli
a=rtpmap:102 H264/90000
a=rtcp-fb:102 goog-remb
a=rtcp-fb:102 ccm fir
a=rtcp-fb:102 nack
a=rtcp-fb:102 nack pli
a=fmtp:102 level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f
"""


def avatars(connection: Connection, headers: Mapping[str, str]) -> Sequence[str]:
    """Return the names of a gateway's avatars; none where it has none, or does not know the word."""
    if connection.ask("GET", "/v1/avatars", headers=headers) != 200:
        connection.close()
        return ()
    body = msgspec.json.decode(connection.rest())
    connection.close()
    rows = body.get("data") if isinstance(body, dict) else body
    return [str(row["id"]) for row in rows or () if isinstance(row, dict) and "id" in row]


def offer() -> bytes:
    """Return an SDP offer to receive audio and video, with its own ICE credentials."""
    fingerprint = ":".join(f"{byte:02X}" for byte in secrets.token_bytes(_FINGERPRINT_BYTES))
    text = _OFFER.format(
        session=secrets.randbits(62), ufrag=secrets.token_hex(4), pwd=secrets.token_hex(16), fingerprint=fingerprint
    )
    return text.replace("\n", "\r\n").encode()
