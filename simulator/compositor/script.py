"""How the simulated compositor behaves: told when it is made, so that a test chooses what goes wrong."""

from __future__ import annotations

from dataclasses import dataclass

from streamkit.wire.pb import compositor_pb2 as pb

__all__ = ["Script"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Script:
    """One behaviour."""

    #: Names of avatars that are ready.
    avatars: tuple[str, ...] = ("sim-face",)
    #: And of those that are not.
    unready: tuple[str, ...] = ()
    codecs: tuple[int, ...] = (pb.H264, pb.VP8, pb.MJPEG)
    #: Units that may be unacknowledged.
    window: int = 3
    max_sessions: int = 16
    #: Speech takes so long.
    ms_per_char: float = 20.0
    #: The call ends after so many units; 0 = never.
    die_after: int = 0
    #: It goes on speaking when it is interrupted.
    deaf: bool = False
    #: `Open` is never answered.
    mute: bool = False
