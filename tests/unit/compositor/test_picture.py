"""Pictures: a mouth changes its region and not one bit beside it; colours survive the way to YUV and back."""

from __future__ import annotations

import numpy as np
import pytest

from compositor.avatars import face
from compositor.avatars.clip import Clip, layered, played
from compositor.avatars.footage import Shot
from compositor.avatars.visuals import visuals
from compositor.picture.i420 import FULL, blank, blend, planes, rgb_of, weights
from compositor.picture.paste import MOUTH_BYTES, Canvas
from compositor.picture.region import region_of
from streamkit.wire.errors import HeadraceError

WIDTH, HEIGHT = 640, 480
CROP = (100, 60, 328)


@pytest.fixture(scope="module")
def noise() -> np.ndarray:
    return np.random.default_rng(1).integers(16, 235, WIDTH * HEIGHT * 3 // 2).astype(np.uint8)


@pytest.mark.parametrize("crop", [CROP, (101, 61, 255), (0, 0, 480), (311, 151, 329)])
def test_pixels_outside_of_the_region_are_bit_identical(noise, crop):
    region = region_of(crop, WIDTH, HEIGHT)
    canvas = Canvas(WIDTH, HEIGHT, "rgb")
    canvas.draw(noise, bytes(range(256)) * (MOUTH_BYTES // 256), region)
    changed = [
        now != before
        for now, before in zip(planes(canvas.picture, WIDTH, HEIGHT), planes(noise, WIDTH, HEIGHT), strict=True)
    ]
    for at, plane in enumerate(changed):
        scale = 1 if at == 0 else 2
        top, left = region.top // scale, region.left // scale
        bottom, right = top + region.height // scale, left + region.width // scale
        assert plane[top:bottom, left:right].mean() > 0.8
        plane[top:bottom, left:right] = False
        assert not plane.any()
    canvas.draw(noise, None, region)
    assert (canvas.picture == noise).all()


def test_the_middle_of_a_region_is_the_mouth_and_its_edge_fades(noise):
    region = region_of(CROP, WIDTH, HEIGHT)
    assert (region.left, region.top, region.width, region.height) == (104, 64, 320, 320)
    assert region.luma[160, 160] == region.chroma[80, 80] == FULL
    edge = region.luma[160]
    assert edge[0] < 8
    assert (np.diff(edge[:160]) >= 0).all()
    assert (edge == edge[::-1]).all()
    canvas = Canvas(WIDTH, HEIGHT, "rgb")
    canvas.draw(noise, bytes([200, 40, 40]) * (320 * 320), region)
    red = rgb_of(canvas.picture, WIDTH, HEIGHT)[64 + 100 : 64 + 220, 104 + 100 : 104 + 220]
    assert np.abs(red.astype(int) - [200, 40, 40]).max() <= 3


def test_the_order_of_channels_is_the_avatar_s(noise):
    region = region_of(CROP, WIDTH, HEIGHT)
    pictures = []
    for channels, pixel in (("rgb", [200, 40, 90]), ("bgr", [90, 40, 200])):
        canvas = Canvas(WIDTH, HEIGHT, channels)
        canvas.draw(noise, bytes(pixel) * (320 * 320), region)
        pictures.append(canvas.picture.copy())
    assert np.abs(pictures[0].astype(int) - pictures[1]).max() <= 1


def test_blending_is_exact_at_both_ends_and_between_them_within_half_a_step():
    under, over = np.meshgrid(np.arange(256, dtype=np.uint8), np.arange(256, dtype=np.uint8))
    for weight in (0, 1, 64, 127, FULL):
        mixed = under.copy()
        blend(mixed, over, np.full(under.shape, weight, np.int16))
        wanted = under + (over.astype(float) - under) * weight / FULL
        assert np.abs(mixed - wanted).max() <= 0.5


def test_a_template_is_played_forth_and_back():
    assert [played(at, 4) for at in range(9)] == [0, 1, 2, 3, 2, 1, 0, 1, 2]
    assert [played(at, 1) for at in range(3)] == [0, 0, 0]
    clip = Clip(64, 64, tuple(blank(64, 64) for _ in range(4)))
    assert (clip.period, clip.size_bytes) == (6, 4 * 6144)


def test_transparency_shows_the_background_and_keeps_mouths_off_it():
    alpha = np.zeros((64, 64), np.float32)
    alpha[16:48, 16:48] = 1.0
    shots = [Shot(np.full(6144, 200, np.uint8), alpha)] * 2
    backs = [Shot(np.full(6144, value, np.uint8)) for value in (50, 60)]
    clip = layered(shots, backs, 64, 64)
    assert [frame[0] for frame in clip.frames] == [50, 60]
    assert all(planes(frame, 64, 64)[0][32, 32] == 200 for frame in clip.frames)
    region = region_of((0, 0, 64), 64, 64, clip.alpha)
    assert region.luma[0, 0] == 0
    assert region.luma[32 - region.top, 32 - region.left] == FULL


def test_a_background_stands_for_a_template_without_transparency_frame_by_frame():
    shots = [Shot(np.full(6144, value, np.uint8)) for value in (1, 2)]
    backs = [Shot(np.full(6144, value, np.uint8)) for value in (3, 4)]
    assert [frame[0] for frame in layered(shots, backs, 64, 64).frames] == [3, 4]
    assert [frame[0] for frame in layered(shots, None, 64, 64).frames] == [1, 2]
    with pytest.raises(HeadraceError, match="needs as many frames: expected 2, got 1"):
        layered(shots, backs[:1], 64, 64)


@pytest.fixture(scope="module")
def clip() -> Clip:
    return layered(face.drawn(512, 512), None, 512, 512)


def test_the_model_sees_the_face_and_the_same_with_its_mouth_hidden(clip):
    crop = face.crop_of(512, 512)
    assert crop == (92, 88, 328)
    seen = np.frombuffer(visuals(clip, [crop], "rgb", range(2, 4)), np.uint8).reshape(2, 6, 320, 320)
    real, hidden = seen[0, :3], seen[0, 3:]
    wanted = rgb_of(clip.frames[2], 512, 512)[88 + 4 : 88 + 324, 92 + 4 : 92 + 324].transpose(2, 0, 1)
    assert np.abs(real.astype(int) - wanted).max() == 0
    assert not hidden[:, 5:310, 5:315].any()
    hidden = hidden.copy()
    hidden[:, 5:310, 5:315] = real[:, 5:310, 5:315]
    assert (hidden == real).all()
    # The other order of channels, and another size of face.
    mirrored = np.frombuffer(visuals(clip, [crop], "bgr", range(2, 3)), np.uint8).reshape(6, 320, 320)
    assert (mirrored[2] == seen[0, 0]).all()
    small = np.frombuffer(visuals(clip, [(100, 100, 200)], "rgb", range(1)), np.uint8)
    assert len(small) == 6 * 320 * 320


def test_the_drawn_face_blinks_breathes_and_fits_the_mouth_of_the_model(clip):
    assert len(clip.frames) == face.FRAMES
    moving = [np.abs(clip.frames[at].astype(int) - clip.frames[0]).sum() for at in (10, 22, 30)]
    assert all(moving)
    left, top, side = face.crop_of(512, 512)
    # reference:mouth opens at (160, 218) of the inner 320.
    mouth = rgb_of(clip.frames[0], 512, 512)[top + 4 + 218, left + 4 + 160].astype(int)
    cheek = rgb_of(clip.frames[0], 512, 512)[top + 4 + 170, left + 4 + 160].astype(int)
    assert mouth.sum() < cheek.sum() - 60
    assert left >= 0
    assert top + side <= 512


def test_weights_of_chroma_are_the_mean_of_four():
    mask = np.zeros((4, 4))
    mask[0, 0] = 1.0
    luma, chroma = weights(mask)
    assert (luma[0, 0], luma.sum(), chroma[0, 0], chroma.sum()) == (FULL, FULL, FULL // 4, FULL // 4)
