"""Where the reference models lie: made at first use, whole or not at all."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Final

__all__ = ["NAMES", "ReferenceModelError", "folder", "reference"]

#: Part of a file's name, so that a later version of ours does not find an older one's model.
_VERSION: Final = 3
#: The reference models, by what a configuration calls them: `reference:mouth`.
NAMES: Final = ("mouth", "unet", "ave")


class ReferenceModelError(Exception):
    """A reference model cannot be made; the message is one line for a person."""


def folder() -> Path:
    """Return the cache folder: `$XDG_CACHE_HOME/headrace/models`, or below `~/.cache`."""
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser() / "headrace" / "models"


def reference(name: str, where: Path | None = None) -> Path:
    """Return the file of a reference model, made if it is not there yet.

    Args:
        name: one of `NAMES`.
        where: its folder; left out = the cache.

    Raises:
        ReferenceModelError: there is no such model, its packages are missing, or the folder cannot be written.
    """
    if name not in NAMES:
        raise ReferenceModelError(f"no reference model {name}; there is {', '.join(NAMES)}")
    at = (where or folder()) / f"{name}-{_VERSION}.onnx"
    if at.exists():
        return at
    try:
        made = _maker(name)()
    except ModuleNotFoundError as error:
        raise ReferenceModelError(f"the package {error.name} is missing: pip install 'headrace[models]'") from None
    try:
        at.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=at.parent, prefix=f".{at.name}.")
        with os.fdopen(handle, "wb") as file:
            file.write(made)
        Path(temporary).replace(at)
    except OSError as error:
        raise ReferenceModelError(f"{at}: cannot be written: {error.strerror}") from None
    return at


def _maker(name: str) -> Callable[[], bytes]:
    # onnx takes a second to load, and is there for these models only.
    if name == "mouth":
        from core_gpu.inference.reference.mouth import mouth  # noqa: PLC0415

        return lambda: mouth().SerializeToString()
    if name == "ave":
        from core_gpu.inference.reference.ave import ave  # noqa: PLC0415

        return lambda: ave().SerializeToString()
    from core_gpu.inference.reference.unet import unet  # noqa: PLC0415

    return lambda: unet().SerializeToString()
