"""A gateway with a face, as `headrace up` starts it: edge, compositor, inference server, a voice, each a process."""

from __future__ import annotations

import urllib.error
import urllib.request
from pathlib import Path
from typing import Final, Self

import msgspec

from loadtest.launched import Launched, Service, services
from loadtest.relay import proc
from loadtest.relay.gateways.base import answers

__all__ = ["AVATAR", "FaceSite"]

#: The one that there is where a file names none.
AVATAR: Final = "reference"
#: Services of which something is asked, and what is left of them at the end.
WATCHED: Final = ("edge", "compositor", "inference")
_VOICE: Final = "voice"
_FILE: Final = """\
[edge]

[inference]

[compositor]

[simulator]
"""


class _Row(msgspec.Struct, frozen=True):
    id: str
    ready: bool


class _Avatars(msgspec.Struct, frozen=True):
    data: list[_Row]


class FaceSite:
    """An async context manager.

    Args:
        scratch: a folder for configuration and logs.

    Raises:
        SiteError: on entry, when it does not start.
    """

    def __init__(self, scratch: Path) -> None:
        self._scratch = scratch
        self._ready = scratch / "ready.json"
        self._launched = Launched(scratch)
        self._services: dict[str, Service] = {}

    async def __aenter__(self) -> Self:
        try:
            config = self._scratch / "headrace.toml"
            config.write_text(_FILE)
            options = ["--config", str(config), "--port-base", "0", "--ready-file", str(self._ready)]
            child = self._launched.start("headrace", "up", *options)
            await self._launched.until(self._serves, child)
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._launched.stop_all()

    @property
    def edge_url(self) -> str:
        """Where viewers go."""
        return self._services["edge"].url or ""

    def ops_urls(self) -> dict[str, str]:
        """Return where the services say what they hold, by name."""
        return {name: self._services[name].ops_url or "" for name in WATCHED}

    def restarted(self) -> list[str]:
        """Return the services that were started again: `headrace up` brings back what dies."""
        now = services(self._ready)
        return [name for name, one in self._services.items() if name in now and now[name].pid != one.pid]

    def pids(self) -> dict[str, int]:
        """Return the processes that are watched, by name: the services, and what speaks."""
        found = {name: self._services[name].pid or 0 for name in WATCHED}
        voice = proc.tree([found["compositor"]]) - {found["compositor"]}
        return {**found, **dict.fromkeys([_VOICE] if voice else [], max(voice, default=0))}

    def _serves(self) -> bool:
        self._services = services(self._ready)
        if not self._services.keys() >= set(WATCHED) or not answers(self.edge_url, "/v1/models", 1.0):
            return False
        try:
            with urllib.request.urlopen(f"{self.edge_url}/v1/avatars", timeout=1) as page:  # noqa: S310  our own
                rows = msgspec.json.decode(page.read(), type=_Avatars).data
        except urllib.error.URLError:
            return False
        return any(row.id == AVATAR and row.ready for row in rows)
