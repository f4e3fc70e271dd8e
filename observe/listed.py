"""The backends as control lists them: which are probed, with which model, and what is held there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from streamkit.ops.http_client import Headers, HttpClient, HttpError
from streamkit.wire.unreadable import UNREADABLE

__all__ = ["Listed", "listed"]

_CALL_MS: Final = 2_000
#: Engines that stream no chats.
_SILENT: Final = frozenset({"tfserving", "inference"})


class Listed(msgspec.Struct, frozen=True):
    """What is needed of a line of control's `GET /v1/backends`."""

    name: str
    engine: str
    health: str
    models: tuple[str, ...] = ()
    resident: tuple[str, ...] | None = None
    held: bool = False
    held_nodes: tuple[str, ...] = ()

    def probed_model(self, before: str = "") -> str:
        """Return what to ask it for; empty = it is not probed. Nobody has an engine load a model for a probe.

        Args:
            before: what it was asked for the last time: asked again where that goes, so that times can be compared.
        """
        if self.engine in _SILENT:
            return ""
        models: Sequence[str] = self.models
        if self.engine == "ollama" or self.resident is not None:
            models = self.resident or ()
        return before if before in models else next(iter(models), "")

    def holds(self, node: str) -> bool:
        """Say whether control holds it for that node; an empty name = for all nodes."""
        return node in self.held_nodes if node else self.held


class _Lines(msgspec.Struct):
    data: tuple[Listed, ...] = ()


async def listed(http: HttpClient, control_url: str, headers: Headers) -> dict[str, Listed] | None:
    """Return control's backends by name; None = it does not answer, or not with a list."""
    try:
        answer = await http.get(f"{control_url.rstrip('/')}/v1/backends", timeout_ms=_CALL_MS, headers=headers)
        if answer.status != 200:
            return None
        return {line.name: line for line in msgspec.json.decode(answer.body, type=_Lines).data}
    except (HttpError, *UNREADABLE):
        return None
