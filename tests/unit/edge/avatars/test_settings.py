"""Settings of avatars that do not fit together are refused by name, before anything listens."""

from __future__ import annotations

import sys

import pytest

from edge.avatars.settings import AvatarSettings, WebRtcSettings, check_avatars
from edge.exposure import exposed_at
from edge.faces import avatars_of
from edge.settings import EdgeSettings
from streamkit.ops.settings import SettingsError

HERE = "grpc://127.0.0.1:1"


@pytest.mark.parametrize(
    ("avatars", "webrtc", "word"),
    [
        ({"compositor_url": "http://127.0.0.1:1"}, {}, "compositor_url: expected grpc://host:port"),
        ({"compositor_url": "grpc://nowhere"}, {}, "compositor_url"),
        ({"compositor_cert": "a"}, {}, "one needs the other"),
        ({}, {"addresses": ()}, "addresses: expected at least one"),
        ({}, {"addresses": ("here",)}, "addresses: expected IP addresses, got here"),
        ({}, {"public_addresses": ("media.example",)}, "public_addresses: expected IP addresses"),
        ({}, {"port_min": 5}, "both or neither"),
        ({}, {"port_min": 6, "port_max": 5}, "at most port_max"),
        ({}, {"ice_servers": ("https://x",)}, "ice_servers: expected stun"),
        ({}, {"relay": True}, "relay: needs a TURN server"),
    ],
)
def test_what_does_not_fit_is_named(avatars: dict, webrtc: dict, word: str):
    with pytest.raises(SettingsError, match=word):
        check_avatars(AvatarSettings(**avatars), WebRtcSettings(**webrtc))


def test_what_fits_passes():
    check_avatars(
        AvatarSettings(compositor_url="grpcs://faces.internal:50053"),
        WebRtcSettings(
            addresses=("10.0.0.5", "::1"),
            public_addresses=("203.0.113.9",),
            port_min=5,
            port_max=5,
            ice_servers=("stun:s.example", "turn:t.example:3478?transport=tcp", "turns:t.example"),
            relay=True,
        ),
    )


def test_media_beyond_loopback_counts_as_listening_there():
    wide = WebRtcSettings(addresses=("127.0.0.1", "10.0.0.5"))
    avatars = AvatarSettings(compositor_url=HERE)
    assert exposed_at(EdgeSettings(avatars=avatars, webrtc=wide)) == "webrtc.addresses: 10.0.0.5"
    assert exposed_at(EdgeSettings(host="0.0.0.0", avatars=avatars)) == "host: 0.0.0.0"
    assert exposed_at(EdgeSettings(avatars=avatars)) == ""
    assert exposed_at(EdgeSettings(webrtc=wide)) == "", "there are no avatars"
    assert (
        exposed_at(EdgeSettings(avatars=avatars, webrtc=WebRtcSettings(enabled=False, addresses=("10.0.0.5",)))) == ""
    )


class Nothing:
    def __getattr__(self, name: str) -> object:
        return lambda *_: Nothing()


class Parts:
    metrics = Nothing()


def without(monkeypatch: pytest.MonkeyPatch, package: str, *ours: str) -> EdgeSettings:
    for name in [name for name in sys.modules if name.startswith((*ours, f"{package}."))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)
    return EdgeSettings(avatars=AvatarSettings(compositor_url=HERE))


def test_a_missing_package_is_named_with_what_brings_it(monkeypatch: pytest.MonkeyPatch):
    settings = without(monkeypatch, "grpc", "edge.avatars.", "edge.endpoints.avatars")
    with pytest.raises(SettingsError, match=r"grpc is missing: pip install 'headrace\[webrtc\]'"):
        avatars_of(settings, Parts(), None)


def test_without_aiortc_avatars_come_over_websocket(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    settings = without(monkeypatch, "aiortc", "edge.webrtc", "edge.endpoints.avatars")
    made = avatars_of(settings, Parts(), None)
    assert made is not None
    assert made._whep is None
    assert "avatars.no_webrtc" in caplog.text
