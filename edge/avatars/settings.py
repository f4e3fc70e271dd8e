"""Settings of avatars and of their WebRTC: the `[edge.avatars]` and `[edge.webrtc]` tables of `headrace.toml`."""

from __future__ import annotations

import ipaddress
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, Literal

import msgspec

from streamkit.ops.exposure import is_loopback, secret_from
from streamkit.ops.settings import SettingsError

if TYPE_CHECKING:
    import grpc

__all__ = ["AvatarSettings", "WebRtcSettings", "beyond_loopback", "check_avatars", "grpc_credentials"]

Port = Annotated[int, msgspec.Meta(ge=0, le=65535)]
Millis = Annotated[int, msgspec.Meta(ge=1, le=86_400_000)]
KIB: Final = 1024
MIB: Final = 1024 * KIB
_URL: Final = re.compile(r"grpcs?://[^/@\s]+:\d{1,5}/?")
_ICE: Final = re.compile(r"(?:stuns?:[A-Za-z0-9.\[\]:-]+|turns?:[A-Za-z0-9.\[\]:-]+(?:\?transport=(?:udp|tcp))?)")


class AvatarSettings(msgspec.Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """Avatars: the compositor that makes them, and how many may be watched here."""

    #: Where the compositor answers, `grpc://host:port`, or `grpcs://` with TLS; empty = there are no avatars.
    compositor_url: str = ""
    #: PEM file with the authority of the compositor's certificate; for `grpcs://`.
    compositor_ca: str = ""
    #: PEM files with the certificate that the edge shows it, and its key.
    compositor_cert: str = ""
    #: The certificate's key.
    compositor_key: str = ""
    #: A session must be open within this.
    open_ms: Millis = 10_000
    #: Avatar sessions of this edge process.
    max_sessions: Annotated[int, msgspec.Meta(ge=1, le=10_000)] = 64
    #: Viewers of this edge process, of all sessions together.
    max_viewers: Annotated[int, msgspec.Meta(ge=1, le=10_000)] = 200
    #: And of one tenant.
    tenant_viewers: Annotated[int, msgspec.Meta(ge=1, le=10_000)] = 100
    #: Units that may wait for one viewer before the oldest goes.
    queue_units: Annotated[int, msgspec.Meta(ge=1, le=25)] = 3
    #: A session without a viewer waits so long for one to come back; it makes no pictures meanwhile.
    resume_ms: Annotated[int, msgspec.Meta(ge=0, le=600_000)] = 30_000
    #: A viewer that is silent for so long is gone.
    silence_ms: Annotated[int, msgspec.Meta(ge=500, le=60_000)] = 4_000
    #: Messages a second from one viewer; twice as many at once.
    messages_per_s: Annotated[int, msgspec.Meta(ge=1, le=10_000)] = 50
    #: Largest message of a viewer.
    message_bytes: Annotated[int, msgspec.Meta(ge=KIB, le=256 * KIB)] = 128 * KIB
    #: Unsent bytes of messages to a viewer, above which what it asked for is paused.
    unsent_bytes: Annotated[int, msgspec.Meta(ge=16 * KIB)] = 256 * KIB
    #: Chat streams of one viewer at a time.
    max_streams: Annotated[int, msgspec.Meta(ge=1, le=1_000)] = 8
    #: Text that may wait to be spoken in one session.
    speech_bytes: Annotated[int, msgspec.Meta(ge=KIB, le=16 * MIB)] = 64 * KIB
    #: Largest sound that may be posted.
    sound_bytes: Annotated[int, msgspec.Meta(ge=KIB, le=256 * MIB)] = 16 * MIB


class WebRtcSettings(msgspec.Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """WebRTC: the addresses of media, and the servers that help through firewalls."""

    #: False = avatars are watched over WebSocket only.
    enabled: bool = True
    #: Addresses that media is sent from. Anything but loopback needs keys, as `edge.host` does.
    addresses: tuple[str, ...] = ("127.0.0.1",)
    #: Addresses under which the same ports are reached from outside, through NAT one to one.
    public_addresses: tuple[str, ...] = ()
    #: UDP ports, the lowest and the highest; 0 = whatever the system gives.
    port_min: Port = 0
    #: With `port_min`: 100 ports are enough for 100 viewers.
    port_max: Port = 0
    #: STUN and TURN servers for viewers, like "turn:turn.example:3478?transport=udp".
    ice_servers: tuple[str, ...] = ()
    #: The environment variable with the secret that the TURN servers share with us (coturn's `static-auth-secret`).
    turn_secret_env: str = ""
    #: Life of the credentials that viewers get for them.
    turn_ttl_ms: Annotated[int, msgspec.Meta(ge=60_000, le=86_400_000)] = 3_600_000
    #: This edge asks the first TURN server for an address of its own: for an edge whose ports nobody reaches.
    relay: bool = False
    #: Codecs of pictures, best first.
    codecs: tuple[Literal["h264", "vp8"], ...] = ("h264", "vp8")
    #: Largest session description.
    sdp_bytes: Annotated[int, msgspec.Meta(ge=4 * KIB, le=512 * KIB)] = 64 * KIB
    #: A viewer must be connected within this.
    connect_ms: Millis = 15_000
    #: Viewers may offer a microphone, which then drives the face.
    microphone: bool = True

    def ports(self) -> range:
        """UDP ports to take; empty = any."""
        return range(self.port_min, self.port_max + 1) if self.port_min else range(0)

    def turn_secret(self) -> str:
        """Return the secret of the TURN servers; empty = there is none.

        Raises:
            SettingsError: the environment has no such variable.
        """
        return secret_from(self.turn_secret_env, "edge.webrtc.turn_secret_env")


def check_avatars(avatars: AvatarSettings, webrtc: WebRtcSettings) -> None:
    """Return if the settings fit together.

    Raises:
        SettingsError: which do not, and why.
    """
    if avatars.compositor_url and _URL.fullmatch(avatars.compositor_url) is None:
        raise SettingsError(
            f"edge.avatars.compositor_url: expected grpc://host:port or grpcs://host:port,"
            f" got {avatars.compositor_url}"
        )
    if bool(avatars.compositor_cert) != bool(avatars.compositor_key):
        raise SettingsError("edge.avatars.compositor_cert and compositor_key: one needs the other")
    if not webrtc.addresses:
        raise SettingsError("edge.webrtc.addresses: expected at least one address")
    for key in ("addresses", "public_addresses"):
        for address in getattr(webrtc, key):
            try:
                ipaddress.ip_address(address)
            except ValueError:
                raise SettingsError(f"edge.webrtc.{key}: expected IP addresses, got {address}") from None
    if (webrtc.port_min == 0) != (webrtc.port_max == 0) or webrtc.port_min > webrtc.port_max:
        raise SettingsError("edge.webrtc.port_min: expected at most port_max, and both or neither")
    for server in webrtc.ice_servers:
        if _ICE.fullmatch(server) is None:
            raise SettingsError(f"edge.webrtc.ice_servers: expected stun:… or turn:… addresses, got {server}")
    if webrtc.relay and not any(server.startswith("turn") for server in webrtc.ice_servers):
        raise SettingsError("edge.webrtc.relay: needs a TURN server in ice_servers")


def beyond_loopback(avatars: AvatarSettings, webrtc: WebRtcSettings) -> tuple[str, ...]:
    """Return the addresses of media that are reached from beyond this machine."""
    if not avatars.compositor_url or not webrtc.enabled:
        return ()
    return tuple(address for address in webrtc.addresses if not is_loopback(address))


def grpc_credentials(settings: AvatarSettings) -> grpc.ChannelCredentials:
    """Return what is shown to the compositor, and who it must be.

    Raises:
        SettingsError: a file cannot be read.
    """
    import grpc  # noqa: PLC0415  an edge without avatars loads none

    def read(path: str, key: str) -> bytes | None:
        if not path:
            return None
        try:
            return Path(path).read_bytes()
        except OSError as error:
            raise SettingsError(f"edge.avatars.{key}: {path}: cannot be read: {error.strerror}") from None

    return grpc.ssl_channel_credentials(
        read(settings.compositor_ca, "compositor_ca"),
        read(settings.compositor_key, "compositor_key"),
        read(settings.compositor_cert, "compositor_cert"),
    )
