"""Where `headrace top` looks: the ops addresses of a gateway's processes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import msgspec

from streamkit.ops.settings import SettingsError
from streamkit.wire.unreadable import UNREADABLE

__all__ = ["Places"]

#: Of one port base: workers of the edge, then observe, compositor, inference, arbiter, control.
_OPS_PORTS: Final = range(10, 30)


class _Ready(msgspec.Struct, frozen=True):
    """A ready file, or a part of one: of a service, an edge's workers, or all that `headrace up` started."""

    ops_url: str | None = None
    workers: tuple[_Ready, ...] = ()
    services: tuple[_Ready, ...] = ()

    def urls(self) -> Iterator[str]:
        """Yield every ops address."""
        if self.ops_url:
            yield self.ops_url.rstrip("/")
        for part in (*self.workers, *self.services):
            yield from part.urls()


class Places:
    """Addresses, asked for again and again: what restarts may come back elsewhere, and a worker may be added.

    Args:
        urls: given by the user.
        ready_file: else of `headrace up`, or of one service; None = look at `port_base`.
        port_base: of `headrace up`.

    Raises:
        SettingsError: it is not said where to look.
    """

    def __init__(self, urls: Sequence[str] | None, ready_file: str | None, port_base: int) -> None:
        if not urls and ready_file is None and not port_base:
            raise SettingsError("--port-base 0 means free ports: which, says the ready file (--ready-file)")
        self._ready_file = None if urls else ready_file
        self._urls = [url.rstrip("/") for url in urls or ()]
        #: Somebody is expected at each; otherwise most of them are nobody's.
        self.expected = bool(urls) or ready_file is not None
        if not self.expected:
            self._urls = [f"http://127.0.0.1:{port_base + offset}" for offset in _OPS_PORTS]
        self.said = ", ".join(self._urls) if self.expected else f"the ops ports of --port-base {port_base}"

    def urls(self) -> list[str]:
        """Return where to look now; a ready file that is away for a while leaves it as it was.

        Raises:
            SettingsError: the ready file cannot be read, and never could.
        """
        if self._ready_file is not None:
            try:
                self._urls = _read(self._ready_file)
            except SettingsError:
                if not self._urls:
                    raise
            self.said = ", ".join(self._urls)
        return self._urls


def _read(path: str) -> list[str]:
    try:
        ready = msgspec.json.decode(Path(path).read_bytes(), type=_Ready)
    except OSError as error:
        raise SettingsError(f"{path}: {error.strerror}: is it running?") from None
    except UNREADABLE as error:
        raise SettingsError(f"{path}: no ready file: {error}") from None
    return list(dict.fromkeys(ready.urls()))
