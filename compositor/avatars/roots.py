"""Names from a configuration or a caller to files, and nothing outside of their root."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from streamkit.wire.errors import Code, HeadraceError

__all__ = ["background_file", "checked_name", "inside"]

#: A name is one step of a path: no separator, no leading dot or dash, no two dots in a row.
_NAME: Final = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_-]|\.(?!\.)){0,63}")
_SUFFIXES: Final = ("", ".png", ".jpg", ".jpeg", ".webp", ".mp4", ".webm", ".mkv", ".mov")


def checked_name(name: str, param: str) -> str:
    """Return a name that may stand for a file.

    Args:
        name: as the caller gave it.
        param: the field, for the message.

    Raises:
        HeadraceError: it is none.
    """
    if not _NAME.fullmatch(name):
        raise HeadraceError(
            Code.INVALID_REQUEST,
            f"{param}: expected 1 to 64 letters, digits, dots, dashes or underscores, not beginning with a dot or a"
            " dash, no two dots in a row",
            param=param,
        )
    return name


def inside(root: str, name: str, param: str) -> Path:
    """Return the file or folder `name` below `root`, links followed.

    Args:
        root: a folder.
        name: a path relative to it.
        param: what named it, for messages.

    Raises:
        HeadraceError: there is no root, or it lies outside of it, or is not there.
    """
    if not root:
        raise HeadraceError(Code.NOT_FOUND, f"{param}: there is no folder for it in the configuration", param=param)
    base = Path(root).resolve()
    at = (base / name).resolve()
    if not at.is_relative_to(base):
        raise HeadraceError(Code.FORBIDDEN, f"{param}: lies outside of its folder", param=param)
    if not at.exists():
        raise HeadraceError(Code.NOT_FOUND, f"{param}: no such file or folder: {name}", param=param)
    return at


def background_file(root: str, tenant: str, name: str) -> Path:
    """Return a background's file: the tenant's own, or the one for all.

    Args:
        root: of backgrounds.
        tenant: whose; empty = those for all only.
        name: with or without its suffix.

    Raises:
        HeadraceError: a name is none, or there is no such background.
    """
    checked_name(name, "background")
    folders = [f"tenants/{checked_name(tenant, 'tenant')}", "common"] if tenant else ["common"]
    for folder in folders:
        for suffix in _SUFFIXES:
            try:
                return inside(root, f"{folder}/{name}{suffix}", "background")
            except HeadraceError as error:
                if error.code is not Code.NOT_FOUND:
                    raise
    raise HeadraceError(Code.NOT_FOUND, f"background: no {name} here", param="background")
