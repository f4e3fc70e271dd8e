"""Whatever an offer says, it is read, or refused by an error of ours."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.protocol.sdp import fragment, offer_of
from streamkit.wire.errors import Code, HeadraceError

peer = pytest.importorskip("edge.webrtc.peer")

OFFER = """v=0
o=- 1 2 IN IP4 127.0.0.1
s=-
t=0 0
a=group:BUNDLE 0 1
a=extmap-allow-mixed
m=video 9 UDP/TLS/RTP/SAVPF 96 97 102
c=IN IP4 0.0.0.0
a=rtcp:9 IN IP4 0.0.0.0
a=candidate:1 1 udp 2113937151 192.0.2.7 50001 typ host
a=ice-ufrag:abcd
a=ice-pwd:0123456789012345678901
a=fingerprint:sha-256 00:11:22
a=setup:actpass
a=mid:0
a=extmap:1 urn:ietf:params:rtp-hdrext:sdes:mid
a=recvonly
a=rtcp-mux
a=rtpmap:96 VP8/90000
a=rtcp-fb:96 nack pli
a=rtpmap:97 rtx/90000
a=fmtp:97 apt=96
a=rtpmap:102 H264/90000
a=fmtp:102 level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42001f
a=ssrc:1 cname:x
m=application 9 UDP/DTLS/SCTP webrtc-datachannel
c=IN IP4 0.0.0.0
a=ice-ufrag:abcd
a=ice-pwd:0123456789012345678901
a=fingerprint:sha-256 00:11:22
a=setup:actpass
a=mid:1
a=sctp-port:5000
""".splitlines()
REFUSED = {Code.INVALID_REQUEST, Code.UNPROCESSABLE}
TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\n\r"), max_size=40)


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    lines = list(OFFER)
    for _ in range(draw(st.integers(0, 5))):
        at = draw(st.integers(0, len(lines) - 1))
        match draw(st.sampled_from(["drop", "double", "cut", "words", "junk", "swap"])):
            case "drop":
                del lines[at]
            case "double":
                lines[at:at] = [lines[at]] * draw(st.integers(1, 3))
            case "cut":
                lines[at] = lines[at][: draw(st.integers(0, len(lines[at])))]
            case "words":
                lines[at] = lines[at].replace("9", draw(TEXT))
            case "junk":
                lines[at] = draw(st.sampled_from(["a=", "m=", "c=", "a=ssrc:", "a=rtpmap:", "a=setup:"])) + draw(TEXT)
            case "swap":
                lines[at], lines[0] = lines[0], lines[at]
        if not lines:
            break
    return "\r\n".join([*lines, ""]).encode()


def refusal(read: Callable[[], object]) -> HeadraceError | None:
    try:
        read()
    except HeadraceError as error:
        return error
    return None


def test_the_offer_itself_is_read():
    video, opus = peer.codecs_of(offer_of("\r\n".join([*OFFER, ""]).encode()))
    assert {"vp8", "h264"} <= video
    assert not opus


@settings(max_examples=200, deadline=None)
@given(st.one_of(mutated(), st.binary(max_size=300)))
def test_it_is_read_or_refused_by_us(body: bytes):
    refused = refusal(lambda: peer.codecs_of(offer_of(body)))
    assert refused is None or (refused.code in REFUSED and refused.param == "body")


@settings(max_examples=100, deadline=None)
@given(st.one_of(mutated(), st.binary(max_size=300)))
def test_so_are_fragments(body: bytes):
    refused = refusal(lambda: fragment(body))
    assert refused is None or refused.code is Code.INVALID_REQUEST


@pytest.mark.parametrize("line", ["a=rtpmap:96 VP8/90000", "a=rtcp-fb:* nack", "a=ssrc:1 cname:x", "a=fmtp:96 a=b"])
def test_the_worst_that_passes_keeps_the_library_bounded(line: str):
    worst = [*OFFER[:20], *["a=rtpmap:96 VP8/90000"] * 100, *[line] * 120, *OFFER[20:]]
    refused = refusal(lambda: peer.codecs_of(offer_of("\r\n".join([*worst, ""]).encode())))
    assert refused is None or "the limit is 128" in refused.message
