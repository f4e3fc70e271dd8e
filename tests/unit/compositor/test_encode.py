"""Encoders: keyframes when asked, bitrates in their budget, pictures that look as they were, files without loss."""

from __future__ import annotations

import av
import numpy as np
import pytest

from compositor.avatars import face
from compositor.avatars.clip import Clip, layered
from compositor.encode.codecs import Codecs
from compositor.encode.encoder import Shape
from compositor.encode.jpeg import JpegFiles
from compositor.encode.loops import encoded
from compositor.encode.png import png
from compositor.picture.i420 import frame_of, planes, rgb_of
from compositor.picture.paste import Canvas
from compositor.picture.region import region_of
from compositor.settings import CompositorSettings
from loadtest.avatar.ssim import ssim
from streamkit.wire.pb import compositor_pb2 as pb

SIDE = 256
SHAPE = Shape(SIDE, SIDE, 300_000, 250)
DECODERS = {pb.H264: "h264", pb.VP8: "vp8", pb.VP9: "vp9", pb.MJPEG: "mjpeg"}
ALL = tuple(DECODERS)


@pytest.fixture(scope="module")
def codecs() -> Codecs:
    return Codecs(CompositorSettings(codecs=("h264", "vp8", "vp9", "mjpeg")))


@pytest.fixture(scope="module")
def clip() -> Clip:
    return layered(face.drawn(SIDE, SIDE), None, SIDE, SIDE)


def talking(clip: Clip, ticks: int = 40) -> list[np.ndarray]:
    """Return a clip whose mouth moves: drawn by code, the same bytes every time."""
    crop = face.crop_of(SIDE, SIDE)
    canvas, region = Canvas(SIDE, SIDE, "rgb"), region_of(crop, SIDE, SIDE, clip.alpha)
    left, top, side = crop
    found = []
    y, x = np.mgrid[0:320, 0:320]
    for tick in range(ticks):
        whole = rgb_of(clip.picture(tick), SIDE, SIDE)[top : top + side, left : left + side]
        at = np.linspace(0, side - 1, 320).astype(int)
        mouth = whole[at][:, at].copy()
        opening = 4 + 26 * abs(np.sin(tick * 0.7))
        mouth[((x - 160) / 52) ** 2 + ((y - 218) / opening) ** 2 < 1] = (56, 18, 20)
        canvas.draw(clip.picture(tick), mouth.tobytes(), region)
        found.append(canvas.picture.copy())
    return found


def run(codecs: Codecs, codec: int, pictures, *, keys=(0,), shape: Shape = SHAPE) -> list:
    encoder = codecs.open(codec, shape)
    units = [encoder.encode(frame_of(one, SIDE, SIDE), tick, key=tick in keys) for tick, one in enumerate(pictures)]
    encoder.close()
    return units


def decode(codec: int, units) -> list[np.ndarray]:
    decoder = av.CodecContext.create(DECODERS[codec], "r")
    decoder.thread_count = 1
    frames = [frame for unit in units for frame in decoder.decode(av.Packet(unit.data))]
    frames += decoder.decode(None)
    # Luma with the full range of a JPEG is brought back to that of a video.
    return [frame.reformat(format="yuv420p", dst_color_range="MPEG").to_ndarray()[:SIDE] for frame in frames]


@pytest.mark.parametrize("codec", ALL, ids=DECODERS.values())
def test_every_picture_is_one_unit_that_looks_as_it_was(codecs, clip, codec):
    pictures = talking(clip)
    units = run(codecs, codec, pictures)
    seen = decode(codec, units)
    assert len(seen) == len(units) == len(pictures)
    alike = [ssim(planes(one, SIDE, SIDE)[0], other) for one, other in zip(pictures, seen, strict=True)]
    assert np.mean(alike) >= 0.95
    assert min(alike) >= 0.9
    if codec != pb.MJPEG:
        bits = 8 * sum(len(unit.data) for unit in units[1:]) * 25 / (len(units) - 1)
        assert bits <= SHAPE.bitrate_bps * 1.25


@pytest.mark.parametrize("codec", [pb.H264, pb.VP8, pb.VP9], ids=["h264", "vp8", "vp9"])
def test_keyframes_come_when_asked_and_never_else(codecs, clip, codec):
    pictures = talking(clip, 20)
    # A cut in the middle: an encoder that judges for itself would begin anew.
    pictures[8] = 255 - pictures[8]
    units = run(codecs, codec, pictures, keys=(0, 12))
    assert [tick for tick, unit in enumerate(units) if unit.keyframe] == [0, 12]
    # A viewer that comes with the keyframe needs nothing before it.
    assert len(decode(codec, units[12:])) == 8


def test_h264_is_constrained_baseline_with_parameter_sets_before_each_keyframe(codecs, clip):
    units = run(codecs, pb.H264, talking(clip, 4), keys=(0, 2))
    for tick in (0, 2):
        kinds = [nal[0] & 31 for nal in units[tick].data.replace(b"\0\0\0\1", b"\0\0\1").split(b"\0\0\1") if nal]
        assert [kind for kind in kinds if kind != 6] == [7, 8, 5]
        sps = units[tick].data.split(b"\0\0\1")[1]
        assert (sps[0] & 31, sps[1]) == (7, 66)
        assert sps[2] & 0x40, "constraint_set1: what makes Baseline constrained"
    assert [nal[0] & 31 for nal in units[1].data.replace(b"\0\0\0\1", b"\0\0\1").split(b"\0\0\1") if nal] == [1]


def test_h264_takes_another_bitrate_in_place_and_opens_anew_beyond_its_buffer(codecs, clip):
    random = np.random.default_rng(3)
    encoder = codecs.open(pb.H264, SHAPE)

    def second(first: int) -> float:
        total = 0
        for tick in range(first, first + 25):
            picture = clip.picture(tick).copy()
            picture[: SIDE * SIDE] ^= random.integers(0, 32, SIDE * SIDE).astype(np.uint8)
            unit = encoder.encode(frame_of(picture, SIDE, SIDE), tick, key=tick == 0)
            assert unit.keyframe == (tick == 0)
            total += len(unit.data) * 8
        return total

    second(0)
    before = second(25)
    assert encoder.retune(100_000)
    second(50)
    assert second(75) < before / 2
    assert not encoder.retune(SHAPE.bitrate_bps * 2 + 1)
    encoder.close()
    with pytest.raises(RuntimeError, match="closed"):
        encoder.encode(frame_of(clip.picture(0), SIDE, SIDE), 100, key=False)


@pytest.mark.parametrize("codec", [pb.H264, pb.VP8], ids=["h264", "vp8"])
def test_a_loop_is_closed_groups_that_can_be_entered_at_each_keyframe(codecs, clip, codec):
    loop = encoded(codecs, clip, codec, SHAPE, 25)
    assert len(loop.units) == clip.period == 118
    keys = [at for at, unit in enumerate(loop.units) if unit.keyframe]
    assert keys == [0, 25, 50, 75, 100]
    for first, last in zip(keys, [*keys[1:], 118], strict=True):
        seen = decode(codec, loop.units[first:last])
        assert len(seen) == last - first
        assert ssim(planes(clip.picture(last - 1), SIDE, SIDE)[0], seen[-1]) > 0.95
    # Round and round it is the same.
    assert loop.unit(118 * 7 + 25) is loop.unit(25)
    assert 0 < loop.bitrate_bps <= SHAPE.bitrate_bps


def test_a_still_template_is_no_loop_of_keyframes(codecs, clip):
    still = Clip(SIDE, SIDE, clip.frames[:1])
    loop = encoded(codecs, still, pb.H264, SHAPE, 25)
    assert [at for at, unit in enumerate(loop.units) if unit.keyframe] == [0]
    assert len(loop.units) == 25


def test_png_is_without_loss_and_jpeg_nearly(clip):
    pixels = rgb_of(clip.frames[0], SIDE, SIDE)
    (frame,) = av.CodecContext.create("png", "r").decode(av.Packet(png(pixels)))
    assert (frame.to_ndarray(format="rgb24") == pixels).all()
    files = {quality: JpegFiles(SIDE, SIDE, quality) for quality in (30, 90)}
    sizes = []
    for maker in files.values():
        data = [maker.file(frame_of(clip.frames[0], SIDE, SIDE)) for _ in range(2)]
        assert data[0] == data[1]
        assert data[0][:2] == b"\xff\xd8"
        assert data[0][-2:] == b"\xff\xd9"
        sizes.append(len(data[0]))
    assert sizes[0] < sizes[1]
    (frame,) = av.CodecContext.create("mjpeg", "r").decode(av.Packet(data[0]))
    assert frame.format.name == "yuvj420p"
    seen = frame.to_ndarray(format="rgb24")
    assert np.abs(seen.astype(int) - pixels).mean() < 4


def test_only_what_opens_here_is_offered():
    assert Codecs(CompositorSettings()).available == (pb.H264, pb.VP8, pb.MJPEG)
    assert Codecs(CompositorSettings(codecs=("vp8",))).available == (pb.VP8,)
    # There is no NVENC without its driver: then x264 takes its place.
    assert Codecs(CompositorSettings(avc_encoder="auto")).h264_encoder in ("libx264", "h264_nvenc")
