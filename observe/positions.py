"""How far each feed was read, on disk, so that a next life asks for what follows and not for everything."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from pathlib import Path

import msgspec

from streamkit.ops import log
from streamkit.ops.events import EventId
from streamkit.wire.unreadable import UNREADABLE

__all__ = ["Positions"]

_log = logging.getLogger(__name__)


class Positions:
    """One small file.

    Args:
        path: the file; its folder is there.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._written: dict[str, str] = {}

    def read(self) -> dict[str, str]:
        """Return the last id by feed; a file that is not there, or is damaged, is as good as none.

        Then feeds are read from their beginnings, and JetStream knows the copies by their ids.
        """
        try:
            found = msgspec.json.decode(self._path.read_bytes(), type=dict[str, str])
            # They go out as headers: what is no id would be no header either.
            self._written = {feed: id_ for feed, id_ in found.items() if _is_id(id_)}
        except FileNotFoundError:
            pass
        except (OSError, *UNREADABLE) as error:
            log.event(_log, "positions.unread", level=logging.WARNING, file=str(self._path), why=str(error))
        return dict(self._written)

    def write(self, positions: Mapping[str, str]) -> None:
        """Put new positions in the place of the old ones, whole.

        Raises:
            OSError: the disk does not take it.
        """
        if positions == self._written:
            return
        beside = self._path.with_suffix(".new")
        beside.write_bytes(msgspec.json.encode(dict(positions)))
        os.replace(beside, self._path)  # noqa: PTH105 - one call for both
        self._written = dict(positions)


def _is_id(text: str) -> bool:
    return text.isascii() and text.isprintable() and EventId.parse(text) is not None
