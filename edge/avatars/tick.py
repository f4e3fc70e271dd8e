"""One unit of the compositor on its way to viewers."""

from __future__ import annotations

from typing import Final

from streamkit.wire.pb import compositor_pb2 as pb

__all__ = ["CODECS", "Tick", "name_of", "playback"]

#: As settings and answers call them.
CODECS = {"h264": pb.H264, "vp8": pb.VP8, "vp9": pb.VP9, "mjpeg": pb.MJPEG}
_KINDS: Final = {pb.Mark.STARTED: "started", pb.Mark.FINISHED: "finished", pb.Mark.FAILED: "failed"}


def name_of(codec: int) -> str:
    """Return a codec's name."""
    return next((name for name, value in CODECS.items() if value == codec), "none")


class Tick:
    """A unit, and when it came; shared by all viewers, so nothing is decoded or copied for each.

    Args:
        unit: as the compositor sent it.
        at: `monotonic()` of its arrival.
    """

    __slots__ = ("_videos", "at", "made", "unit")

    def __init__(self, unit: pb.Unit, at: float) -> None:
        self.unit = unit
        self.at = at
        self._videos: dict[int, pb.Video] = {video.codec: video for video in unit.video}
        #: What a transport makes of it once for all its viewers.
        self.made: dict[str, object] = {}

    def video(self, codec: int) -> pb.Video | None:
        """Return its picture in a codec."""
        return self._videos.get(codec)


def playback(mark: pb.Mark, unheard_ms: int) -> dict[str, object]:
    """Return what a viewer is told of a mark."""
    kind = _KINDS.get(mark.kind, "failed")
    message: dict[str, object] = {"type": f"playback.{kind}", "speech": mark.speech, "epoch": mark.epoch}
    if kind != "started":
        message["position_ms"] = max(0, mark.position_ms - unheard_ms)
    if kind == "finished":
        message["interrupted"] = mark.interrupted
    if kind == "failed":
        message["message"] = mark.message
    return message
