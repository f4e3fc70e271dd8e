"""The folders of the two SQLite files: there is room, they may be written, and their file system keeps its locks."""

from __future__ import annotations

import contextlib
import os
import shutil
from pathlib import Path
from typing import Final

from launch.doctor.finding import Finding, bad, good, warning

__all__ = ["folder", "kind_of"]

#: Their locks or their memory maps do not hold between machines, and SQLite's log needs both.
_REMOTE: Final = frozenset({"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "fuse.sshfs", "fuse.s3fs", "afs", "ceph"})
_PASSING: Final = frozenset({"tmpfs", "ramfs"})
_MIB: Final = 1024 * 1024


def folder(check: str, path: Path, *, needs_bytes: int, lasting: bool, mounts: str | None = None) -> Finding:
    """Judge where one of the files lies, or will.

    Args:
        check: the finding's name.
        path: the file, or the folder that will hold it.
        needs_bytes: free room without which it is refused work.
        lasting: it must outlive a reboot.
        mounts: the text of `/proc/mounts`; left out, this machine's.
    """
    place = _existing(path)
    if not os.access(place, os.W_OK | os.X_OK):
        return bad(check, f"{place} may not be written by this user", f"chown it, or name another place than {path}")
    free = shutil.disk_usage(place).free
    kind = kind_of(place, mounts)
    seen = f"{path}: {free // _MIB:,} MiB free" + (f", {kind}" if kind else "")
    if kind in _REMOTE:
        return bad(check, f"{seen}: SQLite's log does not work over a network", "name a folder on a local disk")
    if free < needs_bytes:
        return bad(check, f"{seen}; {needs_bytes // _MIB:,} MiB are needed", "make room, or name a larger disk")
    if free < 4 * needs_bytes:
        return warning(check, f"{seen}; {needs_bytes // _MIB:,} MiB are needed", "make room before it is full")
    if lasting and kind in _PASSING:
        return warning(check, f"{seen}: gone after a reboot, and the keys with it", "name a folder on a disk")
    return good(check, seen)


def kind_of(path: Path, mounts: str | None = None) -> str:
    """Return the type of the file system that holds `path`; empty = unknown."""
    if mounts is None:
        mounts = ""
        with contextlib.suppress(OSError):
            mounts = Path("/proc/mounts").read_text(encoding="utf-8", errors="replace")
    resolved = str(path.resolve())
    best, kind = "", ""
    for line in mounts.splitlines():
        words = line.split()
        if len(words) < 3:
            continue
        at = words[1].replace("\\040", " ")
        inside = resolved == at or resolved.startswith(at.rstrip("/") + "/")
        # A later mount on the same place hides the one before.
        if inside and len(at) >= len(best):
            best, kind = at, words[2]
    return kind


def _existing(path: Path) -> Path:
    place = path.absolute()
    while not place.is_dir():
        place = place.parent
    return place
