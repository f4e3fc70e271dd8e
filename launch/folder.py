"""Where `headrace up` keeps what it found and what its children say."""

from __future__ import annotations

import contextlib
import fcntl
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from streamkit.ops.settings import SettingsError

__all__ = ["found_store", "made_store", "state_folder"]

_STORE: Final = "control.db"


@contextlib.contextmanager
def state_folder(base: int) -> Iterator[Path]:
    """Hold the folder of the ports counted from `base`, for this process alone.

    It is `.headrace/<base>` here, or below `$XDG_RUNTIME_DIR` where one may not write here; on free ports it is
    temporary.

    Raises:
        SettingsError: another `headrace up` holds it, or there is no place for it.
    """
    if base == 0:
        with tempfile.TemporaryDirectory(prefix="headrace-") as temporary:
            yield Path(temporary)
        return
    folder = _made(base)
    with (folder / "lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise SettingsError(
                f"headrace up runs on port {base} already (from {folder}); stop it, or choose another --port-base"
            ) from None
        yield folder


def made_store(base: int, folder: Path | None = None) -> str:
    """Return where control keeps its keys when no setting says where; the folder is there.

    Args:
        base: of the ports, which names the folder.
        folder: held already by `state_folder`.

    Raises:
        SettingsError: there is no place for it.
    """
    try:
        return str(((folder or _made(base)) / _STORE).resolve())
    except SettingsError as error:
        raise SettingsError(f"{error}, or set control.store_path") from None


def found_store(base: int) -> str:
    """Return the path of the store that a control of these ports here uses; there may be no such file."""
    paths = [place / str(base) / _STORE for place in _places()]
    return str(next((path for path in paths if path.exists()), paths[0]))


def _places() -> list[Path]:
    places = [Path(".headrace")]
    if runtime := os.environ.get("XDG_RUNTIME_DIR"):
        places.append(Path(runtime) / "headrace")
    return places


def _made(base: int) -> Path:
    places = _places()
    for place in places:
        folder = place / str(base)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            # What is found on one machine belongs in nobody's repository.
            (place / ".gitignore").write_text("*\n", encoding="utf-8")
        except OSError:
            continue
        return folder
    raise SettingsError(f"cannot write to {' or '.join(map(str, places))}; start it in a folder of your own")
