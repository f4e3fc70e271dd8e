"""All avatars: which there are, whether they can be shown, and their frames, loaded when somebody asks."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path

from compositor.avatars import face
from compositor.avatars.clip import Clip, layered
from compositor.avatars.footage import Limits, Shot, footage
from compositor.avatars.landmarks import Crop, crops
from compositor.avatars.roots import background_file, inside
from compositor.picture.region import Region, Weights, region_of
from compositor.settings import REFERENCE, AvatarSettings, CompositorSettings
from compositor.shelf import Shelf
from streamkit.wire.errors import Code, HeadraceError

__all__ = ["Gallery", "Scene", "SceneKey"]

#: An avatar, and the file of its background; empty = none.
SceneKey = tuple[str, str]
_MIB = 1024 * 1024


@dataclass(frozen=True, slots=True, eq=False)
class Scene:
    """An avatar in front of a background, ready to be drawn on.

    Args:
        key: its name among scenes.
        avatar: its settings.
        clip: its frames.
        crops: the squares around the face: one for each frame, or one for all.
        regions: where mouths go, the same way.
    """

    key: SceneKey
    avatar: AvatarSettings
    clip: Clip
    crops: tuple[Crop, ...]
    regions: tuple[Region, ...]

    def region(self, frame: int) -> Region:
        """Return where the mouth of a frame goes."""
        return self.regions[frame % len(self.regions)]

    @property
    def size_bytes(self) -> int:
        """Bytes of its frames, and of all that says where mouths go."""
        masks = {id(region.luma): region.luma.nbytes + region.chroma.nbytes for region in self.regions}
        return self.clip.size_bytes + sum(masks.values())


class Gallery:
    """The avatars of a configuration.

    Args:
        settings: roots and bounds.
        avatars: that may be asked for.
        pool: where frames are decoded.
    """

    def __init__(self, settings: CompositorSettings, avatars: tuple[AvatarSettings, ...], pool: Executor) -> None:
        self.avatars = {avatar.id: avatar for avatar in avatars}
        self._settings = settings
        self._pool = pool
        self._limits = Limits(settings.max_pixels, settings.max_frames, settings.frames_mb * _MIB)
        self.scenes: Shelf[SceneKey, Scene] = Shelf(
            settings.frames_mb * _MIB, lambda scene: scene.size_bytes, "frames_mb"
        )

    def avatar(self, name: str) -> AvatarSettings:
        """Return an avatar's settings.

        Raises:
            HeadraceError: there is none of that name.
        """
        found = self.avatars.get(name)
        if found is None:
            raise HeadraceError(Code.NOT_FOUND, "avatar: there is none of that name; see ListAvatars", param="avatar")
        return found

    def problem(self, name: str) -> str:
        """Return why an avatar cannot be shown, as far as that is seen without opening its frames; or nothing."""
        avatar = self.avatars[name]
        try:
            if avatar.template != REFERENCE:
                inside(self._settings.avatars_root, avatar.template, "template")
            if avatar.landmarks:
                inside(self._settings.avatars_root, avatar.landmarks, "landmarks")
            if avatar.background:
                background_file(self._settings.backgrounds_root, "", avatar.background)
        except HeadraceError as error:
            return error.message
        return ""

    async def hold(self, name: str, tenant: str, background: str) -> Scene:
        """Return a scene and keep it until `release`.

        Args:
            name: of the avatar.
            tenant: whose backgrounds may be meant; empty = those for all.
            background: empty = the avatar's own.

        Raises:
            HeadraceError: something is not there, damaged, too large, or there is no room.
        """
        avatar = self.avatar(name)
        file: Path | None = None
        if background:
            file = background_file(self._settings.backgrounds_root, tenant, background)
        elif avatar.background:
            file = background_file(self._settings.backgrounds_root, "", avatar.background)
        key = (name, str(file or ""))
        return await self.scenes.hold(key, self._loader(key, avatar, file))

    def release(self, scene: Scene) -> None:
        """Let go of a scene."""
        self.scenes.release(scene.key)

    def _loader(self, key: SceneKey, avatar: AvatarSettings, file: Path | None) -> Callable[[], Awaitable[Scene]]:
        async def load() -> Scene:
            return await asyncio.get_running_loop().run_in_executor(self._pool, self._load, key, avatar, file)

        return load

    def _load(self, key: SceneKey, avatar: AvatarSettings, file: Path | None) -> Scene:
        width, height = avatar.width, avatar.height
        behind = footage(file, width, height, self._limits, "background") if file is not None else None
        if avatar.template == REFERENCE:
            template: Iterable[Shot] = face.drawn(width, height)
            squares: tuple[Crop, ...] = (face.crop_of(width, height),)
        else:
            path = inside(self._settings.avatars_root, avatar.template, "template")
            shots = list(footage(path, width, height, self._limits, "template"))
            template, squares = shots, self._squares(avatar, [shot.size for shot in shots])
        clip = layered(template, behind, width, height)
        known: dict[tuple[int, int], Weights] = {}
        regions = tuple(region_of(crop, width, height, clip.alpha, known) for crop in squares)
        return Scene(key, avatar, clip, squares, regions)

    def _squares(self, avatar: AvatarSettings, sizes: list[tuple[int, int]]) -> tuple[Crop, ...]:
        if avatar.landmarks:
            folder = inside(self._settings.avatars_root, avatar.landmarks, "landmarks")
            return crops(folder, sizes, avatar.width, avatar.height)
        left, top, side = avatar.crop
        return ((left, top, side),)
