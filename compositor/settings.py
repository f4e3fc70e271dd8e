"""What an operator can set of the compositor: the table `[compositor]`, and one `[[avatars]]` for each face."""

from __future__ import annotations

from typing import Annotated, Final, Literal

import msgspec

from streamkit.ops.settings import SettingsError

__all__ = ["REFERENCE", "AvatarSettings", "CompositorSettings", "with_avatars"]

_Port = Annotated[int, msgspec.Meta(ge=0, le=65_535)]
_Ms = Annotated[int, msgspec.Meta(ge=1, le=86_400_000)]
_MsOrNone = Annotated[int, msgspec.Meta(ge=0, le=86_400_000)]
_Mb = Annotated[int, msgspec.Meta(ge=1, le=16_777_216)]
_Count = Annotated[int, msgspec.Meta(ge=1, le=1_000_000)]
_Bitrate = Annotated[int, msgspec.Meta(ge=10_000, le=100_000_000)]
_Side = Annotated[int, msgspec.Meta(ge=64, le=4_096)]
_Pixel = Annotated[int, msgspec.Meta(ge=0, le=4_096)]
_Name = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9_][A-Za-z0-9._-]{0,63}$")]
_Text = Annotated[str, msgspec.Meta(max_length=1_024)]

#: The template that the project draws itself.
REFERENCE: Final = "reference"


class AvatarSettings(msgspec.Struct, frozen=True, kw_only=True):
    """One face that sessions may ask for.

    Args:
        id: what callers call it.
        model: of the inference server, that moves its mouth.
        template: a folder of images, an image or a video below `avatars_root`; or `reference`, which is drawn.
        crop: left, top and side of the square around the face that the model knows, in pixels of the avatar; empty
            only for `reference`.
        landmarks: in place of `crop`, where the head moves: a folder of SyncTalk_2D's files below `avatars_root`.
        width: of the picture, a multiple of 2.
        height: of the picture, a multiple of 4.
        channels: the order in which the model takes and gives colours.
        background: behind (or in place of) the template where a session names none; empty = the template alone.
        voice: what speaks where a session names none; empty = the first there is.
        bitrate_bps: of the video where a session names none.
        preload: opened, registered and its loops encoded when the service starts: its first viewer waits for nothing.
    """

    id: _Name = REFERENCE
    model: _Text = "mouth"
    template: _Text = REFERENCE
    crop: Annotated[tuple[_Pixel, ...], msgspec.Meta(max_length=3)] = ()
    landmarks: _Text = ""
    width: _Side = 512
    height: _Side = 512
    channels: Literal["rgb", "bgr"] = "rgb"
    background: _Text = ""
    voice: _Text = ""
    bitrate_bps: _Bitrate = 800_000
    preload: bool = False


class CompositorSettings(msgspec.Struct, frozen=True, kw_only=True):
    """The compositor's part of `headrace.toml`."""

    #: Address for edges. Anything but loopback needs the three TLS files.
    host: str = "127.0.0.1"
    #: gRPC; `headrace up` puts it on its port base + 53.
    port: _Port = 50_053
    #: Address for health, metrics and events, which ask for no key: keep it private.
    ops_host: str = "127.0.0.1"
    #: For health, metrics and events.
    ops_port: _Port = 7426
    #: PEM files of mutual TLS: certificate, key, and the authority whose clients are let in.
    tls_cert_file: str = ""
    tls_key_file: str = ""
    tls_client_ca_file: str = ""

    #: The inference server, host:port; and the authority that signed its certificate, if it speaks TLS: then the
    #: certificate above is shown to it.
    inference: str = "127.0.0.1:50052"
    inference_ca_file: str = ""
    #: How long a tick's mouth may be late before its sound goes out without it.
    inference_wait_ms: _Ms = 400
    #: How long after a failure it is asked again; and how often it is asked how it is.
    inference_retry_ms: _Ms = 500
    inference_poll_ms: _Ms = 2_000
    #: How far ahead of the picture mouths are asked for, and how many in one request.
    lookahead_ms: Annotated[int, msgspec.Meta(ge=80, le=1_000)] = 320
    max_batch: Annotated[int, msgspec.Meta(ge=1, le=64)] = 8

    #: Where templates and backgrounds lie. Of backgrounds: `common/` for all, `tenants/NAME/` for one.
    avatars_root: str = ""
    backgrounds_root: str = ""
    #: Largest picture that is opened, in pixels; longest template or background, in pictures.
    max_pixels: Annotated[int, msgspec.Meta(ge=4_096, le=268_435_456)] = 16_777_216
    max_frames: _Count = 1_500
    #: Memory for frames of templates and backgrounds, and for loops that are encoded already; used longest ago go.
    frames_mb: _Mb = 512
    loops_mb: _Mb = 128

    #: Sessions at a time, and calls of all kinds.
    max_sessions: _Count = 64
    max_calls: _Count = 1_024
    #: Calls for pictures as files at a time: each keeps a thread as busy as its caller reads.
    max_renders: _Count = 4
    #: Units that an edge may have unacknowledged; one that acknowledges nothing for so long is cut.
    window: Annotated[int, msgspec.Meta(ge=1, le=32)] = 3
    ack_timeout_ms: _Ms = 30_000
    #: How long a call may take to say which avatar it wants.
    open_timeout_ms: _Ms = 5_000
    #: Utterances that may wait in a session; and how long one may give nothing before it fails.
    max_speeches: Annotated[int, msgspec.Meta(ge=1, le=1_024)] = 32
    speech_wait_ms: _Ms = 10_000
    #: Largest message, in MiB.
    max_message_mb: Annotated[int, msgspec.Meta(ge=1, le=1_024)] = 16

    #: Threads that compose and encode; 0 = one for each core.
    threads: Annotated[int, msgspec.Meta(ge=0, le=1_024)] = 0
    #: What may be asked for: h264, vp8, vp9, mjpeg.
    codecs: tuple[Literal["h264", "vp8", "vp9", "mjpeg"], ...] = ("h264", "vp8", "mjpeg")
    #: Who encodes H.264: x264; nvenc; or auto, which is nvenc where it opens.
    avc_encoder: Literal["x264", "nvenc", "auto"] = "x264"
    avc_preset: Literal["ultrafast", "superfast", "veryfast"] = "ultrafast"
    mjpeg_quality: Annotated[int, msgspec.Meta(ge=1, le=100)] = 80
    #: Bounds of what sessions may ask for.
    min_bitrate_bps: _Bitrate = 100_000
    max_bitrate_bps: _Bitrate = 4_000_000
    #: Requests for keyframes closer together than this become one; without any there is one so often.
    keyframe_min_ms: _Ms = 300
    keyframe_max_ms: _Ms = 10_000
    #: Distance of the keyframes in the idle loop: a session comes back to it at one of them.
    loop_keyframe_ms: _Ms = 1_000

    #: How long it still answers after it stopped being ready, and time for sessions under way.
    settle_ms: _MsOrNone = 0
    drain_ms: _Ms = 5_000


def with_avatars(found: tuple[AvatarSettings, ...], where: str) -> tuple[AvatarSettings, ...]:
    """Return the avatars that may be asked for: those given, or the drawn one where none is.

    Args:
        found: the tables `[[avatars]]`.
        where: the file, for messages.

    Raises:
        SettingsError: two have one name, or numbers do not fit together.
    """
    if not found:
        return (AvatarSettings(preload=True),)
    names: set[str] = set()
    for at, avatar in enumerate(found):
        key = f"{where}: avatars[{at}]"
        if avatar.id in names:
            raise SettingsError(f'{key}.id: "{avatar.id}" is there twice')
        names.add(avatar.id)
        for name, step in (("width", 2), ("height", 4)):
            if getattr(avatar, name) % step:
                raise SettingsError(f"{key}.{name}: expected a multiple of {step}, got {getattr(avatar, name)}")
        if avatar.template == REFERENCE:
            if avatar.crop or avatar.landmarks:
                raise SettingsError(f"{key}.crop: expected none, because the drawn face has its own")
            continue
        if avatar.landmarks:
            if avatar.crop:
                raise SettingsError(f"{key}.crop: expected none beside landmarks")
            continue
        if len(avatar.crop) != 3:
            raise SettingsError(f"{key}.crop: expected left, top and side, got {list(avatar.crop)}")
        left, top, side = avatar.crop
        if side < 32 or left + side > avatar.width or top + side > avatar.height:
            raise SettingsError(
                f"{key}.crop: expected a square of at least 32 pixels inside of {avatar.width} x {avatar.height},"
                f" got {list(avatar.crop)}"
            )
    return found
