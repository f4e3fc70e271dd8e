"""Offers before the WebRTC library sees them."""

from __future__ import annotations

import pytest

from edge.protocol.sdp import fragment, offer_of, with_addresses
from streamkit.wire.errors import Code, HeadraceError

HEAD = ["v=0", "o=- 1 2 IN IP4 127.0.0.1", "s=-", "t=0 0"]
VIDEO = [
    "m=video 9 UDP/TLS/RTP/SAVPF 96", "c=IN IP4 0.0.0.0", "a=mid:0", "a=recvonly", "a=rtpmap:96 VP8/90000",
]  # fmt: skip


def text(*lines: str) -> bytes:
    return "\r\n".join([*lines, ""]).encode()


def test_sections_are_read():
    offer = offer_of(text(*HEAD, *VIDEO, "m=application 9 UDP/DTLS/SCTP webrtc-datachannel", "a=mid:d"))
    video = offer.of("video")
    assert video is not None
    assert (video.mid, video.direction, video.codecs) == ("0", "recvonly", {"VP8"})
    assert offer.of("audio") is None


def test_names_and_foreign_transports_are_left_out_of_candidates():
    candidates = [
        "a=candidate:1 1 udp 2113937151 0a1b.local 50000 typ host",
        "a=candidate:2 1 udp 2113937151 192.0.2.7 50001 typ host",
        "a=candidate:3 1 tcp 1518280447 192.0.2.7 9 typ host tcptype active",
        "a=candidate:4 1 UDP 2113937151 ::1 50002 typ host",
        "a=candidate:5 1 udp 2113937151 224.0.0.1 50002 typ host",
        "a=candidate:6 1 udp 2113937151 internal.example 50002 typ host",
        "a=candidate:7",
        "a=end-of-candidates",
    ]
    kept = [line for line in offer_of(text(*HEAD, *VIDEO, *candidates)).text.split("\r\n") if "candidate" in line]
    assert [line.split()[0] for line in kept] == ["a=candidate:2", "a=candidate:4"]
    many = [f"a=candidate:{n} 1 udp 1 192.0.2.{n} 5000 typ host" for n in range(1, 100)]
    assert offer_of(text(*HEAD, *VIDEO, *many)).text.count("a=candidate:") == 32


def test_a_missing_direction_means_both():
    offer = offer_of(text(*HEAD, *[line for line in VIDEO if line != "a=recvonly"]))
    assert "a=sendrecv" in offer.text
    assert offer.media[0].direction == "sendrecv"


@pytest.mark.parametrize(
    ("body", "code", "word"),
    [
        (b"", Code.INVALID_REQUEST, "line 1"),
        (b"hello", Code.INVALID_REQUEST, "line 1"),
        (b"{}", Code.INVALID_REQUEST, "line 1"),
        (b"o=x\r\n", Code.INVALID_REQUEST, "v=0"),
        (b"v=0\r\n\xff\xfe\r\n", Code.INVALID_REQUEST, "byte 5"),
        (text(*HEAD), Code.INVALID_REQUEST, "no section"),
        (text(*HEAD, "m=image 9 x y"), Code.INVALID_REQUEST, "m=image"),
        (text(*HEAD, "m=video 9 UDP/TLS/RTP/SAVPF 96"), Code.INVALID_REQUEST, "a=mid:"),
        (text(*HEAD, *VIDEO, *VIDEO), Code.UNPROCESSABLE, "two of a kind"),
        (text(*HEAD, *VIDEO, "m=audio 9 UDP/TLS/RTP/SAVPF 0", "a=mid:0"), Code.INVALID_REQUEST, "same"),
        (text(*HEAD, *["a=x"] * 1_000), Code.INVALID_REQUEST, "1004 lines, the limit is 1000"),
        (text(*HEAD, "a=" + "x" * 2_000), Code.INVALID_REQUEST, "line 5"),
        (text(*HEAD, *VIDEO, *["a=rtpmap:97 VP8/90000"] * 128), Code.INVALID_REQUEST, "the limit is 128"),
    ],
)
def test_what_is_refused_says_where(body: bytes, code: Code, word: str):
    with pytest.raises(HeadraceError, match=word) as caught:
        offer_of(body)
    assert caught.value.code is code
    assert caught.value.param == "body"


def test_public_addresses_are_added_and_come_first():
    answer = "v=0\r\na=candidate:x 1 udp 100 10.0.0.5 5000 typ host\r\na=end-of-candidates\r\n"
    assert with_addresses(answer, []) == answer
    lines = with_addresses(answer, ["203.0.113.9"]).split("\r\n")
    assert lines[2] == "a=candidate:x1 1 udp 101 203.0.113.9 5000 typ host"
    assert lines[1] == "a=candidate:x 1 udp 100 10.0.0.5 5000 typ host"


def test_a_fragment_is_read():
    found = fragment(
        text(
            "a=ice-ufrag:abcd", "a=ice-pwd:0123", "m=audio 9 UDP/TLS/RTP/SAVPF 0", "a=mid:1",
            "a=candidate:1 1 udp 1 192.0.2.1 4000 typ host", "a=candidate:2 1 udp 1 x.local 4000 typ host",
            "a=end-of-candidates",
        )
    )  # fmt: skip
    assert (found.ufrag, found.pwd, found.complete) == ("abcd", "0123", True)
    assert found.candidates == (("1", "1 1 udp 1 192.0.2.1 4000 typ host"),)
