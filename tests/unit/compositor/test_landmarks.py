"""Squares that follow a face: from landmark files, scaled with the template, and each frame's own."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from compositor.avatars.gallery import Gallery
from compositor.avatars.landmarks import crops
from compositor.avatars.visuals import visuals
from compositor.encode.png import png
from compositor.picture.i420 import rgb_of
from compositor.settings import AvatarSettings, CompositorSettings
from streamkit.wire.errors import HeadraceError


def lms(left: int, top: int, side: int) -> str:
    points = [(0, 0)] * 110
    points[1], points[31], points[52] = (left, 99), (left + side, 99), (7, top)
    return "\n".join(f"{x} {y}" for x, y in points)


def written(folder, squares) -> None:
    folder.mkdir(exist_ok=True)
    for number, square in enumerate(squares):
        (folder / f"{number}.lms").write_text(lms(*square))


def test_each_frame_has_its_own_scaled_to_the_picture(tmp_path):
    squares = [(20 + at, 30, 60) for at in range(12)]
    written(tmp_path / "lms", squares)
    # 10.lms comes after 9.lms, and the picture is twice as large as the template.
    found = crops(tmp_path / "lms", [(160, 120)] * 12, 320, 240)
    assert found == tuple((2 * left, 2 * top, 2 * side) for left, top, side in squares)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("1 2\n", "1.lms: expected at least 53 lines of two numbers"),
        ("a b\n" * 110, "1.lms: expected at least 53 lines of two numbers"),
        ("\xff", "1.lms: expected at least 53 lines of two numbers"),
        ("1 1\n" * 20_000, "1.lms: expected at most 65536 bytes"),
        (lms(130, 30, 60), "1.lms: expected a square of at least 32 pixels inside of 160 x 120, got [130, 30, 60]"),
        (lms(30, 30, -60), "1.lms: expected a square of at least 32 pixels"),
        (None, "lms: expected a file NUMBER.lms for each of the template's 2 frames, got 1"),
    ],
)
def test_what_cannot_be_used_is_told_by_its_file(tmp_path, content, words):
    written(tmp_path / "lms", [(20, 30, 60)])
    if content is not None:
        (tmp_path / "lms" / "1.lms").write_text(content, encoding="latin-1")
    with pytest.raises(HeadraceError) as caught:
        crops(tmp_path / "lms", [(160, 120)] * 2, 160, 120)
    assert words in caught.value.message


def test_the_model_sees_the_square_of_each_frame_and_its_mouth_goes_back_there(tmp_path):
    squares = [(20, 16, 64), (60, 32, 66)]
    written(tmp_path / "lms", squares)
    (tmp_path / "frames").mkdir()
    y, x = np.mgrid[0:120, 0:160]
    for at in range(2):
        pixels = np.stack([x, 2 * y, np.full_like(x, 40 + 60 * at)], axis=-1).astype(np.uint8)
        (tmp_path / "frames" / f"{at}.png").write_bytes(png(pixels))
    avatar = AvatarSettings(id="a", template="frames", landmarks="lms", width=160, height=120)
    with ThreadPoolExecutor(1) as pool:
        gallery = Gallery(CompositorSettings(avatars_root=str(tmp_path)), (avatar,), pool)
        assert gallery.problem("a") == ""
        scene = gallery._load(("a", ""), avatar, None)
    assert scene.crops == tuple(squares)
    assert [(region.left, region.top) for region in scene.regions] == [(20, 16), (60, 32)]
    seen = np.frombuffer(visuals(scene.clip, scene.crops, "rgb", range(2)), np.uint8).reshape(2, 6, 320, 320)
    for at, (left, top, side) in enumerate(squares):
        middle = rgb_of(scene.clip.frames[at], 160, 120)[top + side // 2, left + side // 2].astype(int)
        assert np.abs(seen[at, :3, 160, 160].astype(int) - middle).max() <= 4
    assert scene.size_bytes > scene.clip.size_bytes
