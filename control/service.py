"""Control put together: the registry, its numbered snapshot, the probes, and the routing decisions of one process."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

import msgspec

from control.decide import decide
from control.health import Finding, Health
from control.probe import Getter, probe
from control.registry import Registry
from control.settings import ControlSettings
from control.snapshot import Board
from streamkit.flow.clock import MONOTONIC, Clock
from streamkit.ops import log
from streamkit.wire.backend import Backend
from streamkit.wire.ids import Instance, node_name
from streamkit.wire.route import RouteRequest

__all__ = ["Control", "Counters"]

_log = logging.getLogger(__name__)
#: Distinct questions whose encoded answers are kept within one snapshot.
_ANSWERS: Final = 1_024
_JITTER: Final = 0.1


@dataclass(slots=True)
class Counters:
    """What control has done since its start; read by the metrics page."""

    routed: int = 0  #: answers with candidates
    shed: dict[str, int] = field(default_factory=dict)  #: answers without, by code
    syncs: int = 0
    probes_ok: int = 0
    probes_failed: int = 0
    probe_errors: int = 0  #: probes that ended in a bug of ours
    refused: int = 0  #: requests that were answered with an error


class Control:
    """One life of the control plane.

    Args:
        settings: control's own.
        backends: as configured.
        client: makes the probes' calls.
        api_keys: the engines' bearer tokens by backend name.
        instance: this life; a new one when left out.
        clock: monotonic seconds.
        on_event: told of each change of a backend's health, as an event name and its fields.
    """

    def __init__(
        self,
        settings: ControlSettings,
        backends: tuple[Backend, ...],
        *,
        client: Getter,
        api_keys: Mapping[str, str] | None = None,
        instance: Instance | None = None,
        clock: Clock = MONOTONIC,
        on_event: Callable[[str, Mapping[str, object]], None] | None = None,
    ) -> None:
        self.settings = settings
        self.counters = Counters()
        self.registry = Registry(backends, settings, api_keys=api_keys, clock=clock, on_backend=self._tell)
        self.board = Board(
            self.registry, instance or Instance.new(node_name()), max_waits=settings.max_waits, clock=clock
        )
        self._client = client
        self._on_event = on_event
        self._answers: dict[RouteRequest, bytes] = {}
        self._answers_of = self.board.sequence
        self._random = random.Random()  # noqa: S311 - spreads probes in time, guards nothing

    def route(self, request: RouteRequest) -> bytes:
        """Return the answer to `request` as JSON, encoded once for each snapshot and question."""
        if self._answers_of != self.board.sequence or len(self._answers) >= _ANSWERS:
            self._answers.clear()
            self._answers_of = self.board.sequence
        encoded = self._answers.get(request)
        if encoded is not None:
            self.counters.routed += 1
            return encoded
        answer = decide(self.board.view, request, self.settings)
        encoded = msgspec.json.encode(answer)
        if answer.shed is None:
            self.counters.routed += 1
            self._answers[request] = encoded
        else:
            self.counters.shed[answer.shed.code] = self.counters.shed.get(answer.shed.code, 0) + 1
        return encoded

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Probe the backends and forget lost edges for as long as the block runs."""
        tasks = [
            asyncio.create_task(self._watch(backend), name=f"probe {backend.name}")
            for backend in self.registry.backends
        ]
        tasks.append(asyncio.create_task(self._sweep(), name="forget lost edges"))
        try:
            yield
        finally:
            self.board.close()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _watch(self, backend: Backend) -> None:
        """Probe one backend for ever."""
        while True:
            finding = await self._probed(backend)
            if finding.ok:
                self.counters.probes_ok += 1
            else:
                self.counters.probes_failed += 1
            self.registry.observe(backend.name, finding)
            pause_s = self.settings.probe_interval_ms / 1000
            await asyncio.sleep(pause_s * self._random.uniform(1 - _JITTER, 1 + _JITTER))

    async def _probed(self, backend: Backend) -> Finding:
        try:
            return await probe(
                self._client,
                backend,
                api_key=self.registry.api_key(backend.name),
                timeout_ms=self.settings.probe_timeout_ms,
            )
        except Exception:  # noqa: BLE001 - a probe's outermost frame: one bug must not end the watch
            self.counters.probe_errors += 1
            _log.exception("probe.error", extra={"backend": backend.name})
            return Finding(ok=False, detail="the probe itself failed, see control's log")

    async def _sweep(self) -> None:
        """Forget edges when they are lost."""
        while True:
            until_next_s = self.registry.forget_lost()
            await asyncio.sleep(max(0.001, until_next_s))

    def _tell(self, name: str, health: Health, detail: str) -> None:
        level = logging.INFO if health == "up" else logging.WARNING
        log.event(_log, f"backend.{health}", level=level, backend=name, detail=detail)
        if self._on_event is not None:
            self._on_event(f"backend.{health}", {"backend": name, "detail": detail})
