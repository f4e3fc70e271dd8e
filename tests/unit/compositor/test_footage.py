"""Files: whole ones are read, damaged, foreign, huge and outlying ones are told by name and limit."""

from __future__ import annotations

import contextlib
import struct
import zlib
from fractions import Fraction

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compositor.avatars.footage import Limits, footage
from compositor.avatars.roots import background_file, checked_name, inside
from compositor.avatars.stills import measured
from compositor.encode.jpeg import JpegFiles
from compositor.encode.png import png
from compositor.picture.i420 import frame_of, rgb_of
from streamkit.wire.errors import Code, HeadraceError

LIMITS = Limits(pixels=1_000_000, frames=20, size_bytes=10_000_000)


def picture(shade: int = 90, width: int = 64, height: int = 48) -> np.ndarray:
    y, x = np.mgrid[0:height, 0:width]
    return np.stack([x * 3 % 256, y * 4 % 256, np.full_like(x, shade)], axis=-1).astype(np.uint8)


def as_jpeg(width: int = 64, height: int = 48) -> bytes:
    flat = np.full(width * height * 3 // 2, 120, np.uint8)
    return JpegFiles(width, height, 90).file(frame_of(flat, width, height))


def as_rgba(pixels: np.ndarray, alpha: np.ndarray) -> bytes:
    whole = np.dstack([pixels, alpha])
    rows = b"".join(b"\0" + row.tobytes() for row in whole)
    chunks = ((b"IHDR", struct.pack(">IIBBBBB", whole.shape[1], whole.shape[0], 8, 6, 0, 0, 0)),
              (b"IDAT", zlib.compress(rows)), (b"IEND", b""))  # fmt: skip
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    )


def video(path, frames: int, rate: int) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=rate, options={"crf": "10"})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for at in range(frames):
            frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), at * 8, np.uint8), format="rgb24")
            frame.pts, frame.time_base = at, Fraction(1, rate)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def read(path, limits: Limits = LIMITS, size: tuple[int, int] = (64, 48)) -> list:
    return list(footage(path, *size, limits, "template"))


def refused(path, limits: Limits = LIMITS) -> HeadraceError:
    with pytest.raises(HeadraceError) as caught:
        read(path, limits)
    assert caught.value.param == "template"
    return caught.value


def test_images_of_a_folder_are_frames_in_the_order_of_their_names(tmp_path):
    for number, shade in ((2, 60), (10, 200), (1, 20)):
        (tmp_path / f"{number:03}.png").write_bytes(png(picture(shade)))
    (tmp_path / "notes.txt").write_text("not a picture")
    blues = [rgb_of(shot.picture, 64, 48)[24, 32, 2] for shot in read(tmp_path)]
    assert np.abs(np.array(blues, int) - [20, 60, 200]).max() <= 6
    assert all(shot.alpha is None for shot in read(tmp_path))


def test_one_image_is_one_frame_of_the_wanted_size(tmp_path):
    (tmp_path / "a.jpg").write_bytes(as_jpeg(128, 96))
    (shot,) = read(tmp_path / "a.jpg")
    assert len(shot.picture) == 64 * 48 * 3 // 2


def test_transparency_is_kept(tmp_path):
    alpha = np.zeros((48, 64), np.uint8)
    alpha[:, 32:] = 255
    (tmp_path / "a.png").write_bytes(as_rgba(picture(), alpha))
    (shot,) = read(tmp_path / "a.png")
    assert (shot.alpha[24, 8], shot.alpha[24, 56]) == (0.0, 1.0)


def test_a_video_of_another_rate_is_brought_to_25(tmp_path):
    video(tmp_path / "a.mp4", 10, 50)
    assert len(read(tmp_path / "a.mp4")) == pytest.approx(5, abs=1)
    video(tmp_path / "b.mp4", 5, 12)
    shades = [int(shot.picture[0]) for shot in read(tmp_path / "b.mp4")]
    assert len(shades) == pytest.approx(10, abs=1)
    assert shades == sorted(shades)


@pytest.mark.parametrize("cut", [20, 40, 200, -1])
@pytest.mark.parametrize("kind", ["png", "jpg"])
def test_a_file_that_is_cut_off_is_told(tmp_path, kind, cut):
    whole = png(picture()) if kind == "png" else as_jpeg()
    (tmp_path / f"a.{kind}").write_bytes(whole[:cut])
    error = refused(tmp_path / f"a.{kind}")
    assert error.code is Code.INVALID_REQUEST
    assert "cut off" in error.message or "damaged" in error.message
    assert f"a.{kind}" in error.message


def test_a_file_with_a_hole_in_it_is_damaged(tmp_path):
    whole = bytearray(png(picture()))
    whole[60:80] = b"\0" * 20
    (tmp_path / "a.png").write_bytes(whole)
    assert "damaged" in refused(tmp_path / "a.png").message


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.png", b"GIF89a", "expected PNG, JPEG or WebP"),
        ("a.webp", b"RIFF\x10\0\0\0WEBPVP8 ", "cut off"),
        ("a.mp4", b"no film at all" * 99, "no video"),
        ("a.mp4", b"", "no video"),
        # A playlist must not make us open another file.
        ("a.m3u8", b"#EXTM3U\n#EXTINF:1,\n/etc/passwd\n", "expected a folder, or one of .png"),
        ("a.mp4", b"#EXTM3U\n#EXTINF:1,\n/etc/passwd\n", "no video"),
        ("a.mp4", b"ffconcat version 1.0\nfile /etc/passwd\n", "no video"),
    ],
)
def test_foreign_files_are_told(tmp_path, name, content, words):
    (tmp_path / name).write_bytes(content)
    assert words in refused(tmp_path / name).message


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from(
        [b"", b"\x89PNG\r\n\x1a\n", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", b"\xff\xd8\xff\xe0", b"RIFF\0\0\0\0WEBPVP8 "]
    ),
    st.binary(max_size=80),
    st.sampled_from([b"", b"IEND\xaeB`\x82", b"\xff\xd9"]),
)
def test_a_header_of_any_bytes_is_measured_or_refused(head, middle, tail):
    with contextlib.suppress(HeadraceError):
        kind, width, height = measured(head + middle + tail, "a", "template")
        assert kind in ("png", "mjpeg", "webp")
        assert width > 0
        assert height > 0


def test_a_huge_picture_is_refused_by_its_header_alone(tmp_path):
    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    (tmp_path / "a.png").write_bytes(
        b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + b"IHDR" + header + bytes(12) + b"IEND" + bytes(4)
    )
    error = refused(tmp_path / "a.png")
    assert error.code is Code.TOO_LARGE
    assert "expected at most 1000000 pixels (max_pixels), got 60000 x 60000" in error.message
    video(tmp_path / "b.mp4", 2, 25)
    assert (
        "b.mp4: expected at most 1000 pixels (max_pixels), got 64 x 48"
        in refused(tmp_path / "b.mp4", Limits(1_000, 20, 10_000_000)).message
    )


def test_too_many_frames_and_too_many_bytes_are_refused(tmp_path):
    for number in range(4):
        (tmp_path / f"{number}.png").write_bytes(png(picture()))
    assert "at most 3 frames (max_frames)" in refused(tmp_path, Limits(10_000, 3, 10**7)).message
    assert "larger than 10000 bytes together (frames_mb)" in refused(tmp_path, Limits(10_000, 9, 10_000)).message
    (tmp_path / "empty").mkdir()
    assert "there is no picture in it" in refused(tmp_path / "empty").message


def test_nothing_outside_of_a_root_is_opened(tmp_path):
    root = tmp_path / "root"
    (root / "common").mkdir(parents=True)
    (root / "tenants" / "acme").mkdir(parents=True)
    (root / "tenants" / "other").mkdir(parents=True)
    (tmp_path / "secret.png").write_bytes(png(picture()))
    for folder, name in (
        ("common", "wall"),
        ("tenants/acme", "own"),
        ("tenants/other", "theirs"),
        ("tenants/acme", "both"),
        ("common", "both"),
    ):
        (root / folder / f"{name}.png").write_bytes(png(picture()))
    (root / "common" / "link.png").symlink_to(tmp_path / "secret.png")
    assert background_file(str(root), "", "wall").name == "wall.png"
    assert background_file(str(root), "acme", "wall.png").parent.name == "common"
    assert background_file(str(root), "acme", "own").parent.name == "acme"
    assert background_file(str(root), "acme", "both").parent.name == "acme"
    for tenant, name in (("acme", "theirs"), ("", "own"), ("acme", "nothing")):
        with pytest.raises(HeadraceError, match=r"no .* here") as caught:
            background_file(str(root), tenant, name)
        assert caught.value.code is Code.NOT_FOUND
    with pytest.raises(HeadraceError, match="outside of its folder"):
        background_file(str(root), "", "link")
    with pytest.raises(HeadraceError, match="outside of its folder"):
        inside(str(root), "../secret.png", "template")
    with pytest.raises(HeadraceError, match="no folder for it"):
        inside("", "wall", "template")
    (root / "common" / "folder").mkdir()
    (root / "common" / "folder" / "1.png").symlink_to(tmp_path / "secret.png")
    assert "outside of its folder" in refused(root / "common" / "folder").message


@pytest.mark.parametrize(
    "name", ["", ".", "..", "../x", "a/b", "a\\b", "-a", ".a", "a..b", "a\0b", "ä", "a" * 65, "a b"]
)
def test_names_are_one_step_of_a_path(name):
    with pytest.raises(HeadraceError, match="background: expected 1 to 64 letters"):
        checked_name(name, "background")
