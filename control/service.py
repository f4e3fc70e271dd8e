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

from control.arbiters import Arbiters
from control.decide import decide, wanted
from control.health import Finding, Health
from control.holds import AilingRequest, HoldRequest
from control.keyring import Keyring
from control.probe import Getter, probe
from control.registry import Registry
from control.settings import ControlSettings
from control.snapshot import Board
from streamkit.flow.clock import MONOTONIC, Clock
from streamkit.ops import log
from streamkit.wire.backend import Backend
from streamkit.wire.errors import Code, HeadraceError
from streamkit.wire.ids import Instance, node_name
from streamkit.wire.models import Models
from streamkit.wire.route import RouteRequest
from streamkit.wire.state import Ailing, Want

__all__ = ["Control", "Counters"]

_log = logging.getLogger(__name__)
#: Distinct questions whose encoded answers are kept within one snapshot.
_ANSWERS: Final = 1_024
_JITTER: Final = 0.1
#: Holds end no later than this after their time.
_SWEEP_S: Final = 0.5


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
        models: aliases and policies, as configured.
        keyring: the keys that edges get; None = there are none, and none are demanded.
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
        models: Models = Models(),  # noqa: B008 - frozen
        keyring: Keyring | None = None,
        instance: Instance | None = None,
        clock: Clock = MONOTONIC,
        on_event: Callable[[str, Mapping[str, object]], None] | None = None,
    ) -> None:
        self.settings = settings
        self.counters = Counters()
        self.arbiters = Arbiters(clock, self._say)
        self.registry = Registry(
            backends, settings, api_keys=api_keys, clock=clock, arbiters=self.arbiters, on_backend=self._tell
        )
        self.registry.set_models(models)
        self.keyring = keyring
        if keyring is not None:
            # Before the first snapshot: no edge may ever hear that no keys are needed where they are.
            self.registry.set_keys(keyring.snapshot)
            keyring.on_change = self.registry.set_keys
        self.board = Board(
            self.registry, instance or Instance.new(node_name()), max_waits=settings.max_waits, clock=clock
        )
        #: Called with a host and what is wanted there.
        self.on_want: Callable[[str, Want], None] = lambda _host, _want: None
        #: Called with a host and which of its backends is sick.
        self.on_ailing: Callable[[str, Ailing], None] = lambda _host, _ailing: None
        self._client = client
        self._on_event = on_event
        self._watching: dict[str, tuple[Backend, asyncio.Task[None]]] = {}
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
        cold = wanted(self.board.view, request)
        if cold is not None and (host := self.arbiters.host(cold.view.backend.name)):
            self.on_want(host, Want(backend=cold.view.backend.name, model=cold.model))
        if answer.shed is None:
            self.counters.routed += 1
            # What is said to an arbiter may be lost: it is said again with the next question.
            if cold is None:
                self._answers[request] = encoded
        else:
            self.counters.shed[answer.shed.code] = self.counters.shed.get(answer.shed.code, 0) + 1
        return encoded

    def hear(self, message: bytes) -> None:
        """Take in what an arbiter published; a change of pressure is news for the edges."""
        if self.arbiters.read(message):
            self.board.refresh()

    def hear_spent(self, message: bytes) -> None:
        """Take in what payers have used; a figure that changed is news for the edges."""
        self.registry.spending.read(message)
        self.board.refresh()

    def hold(self, asked: HoldRequest) -> None:
        """Make, renew or end a hold on a backend.

        Raises:
            HeadraceError: NOT_FOUND for a backend that is not configured, CONFLICT for the last one of a model that
                takes work, SATURATED where there are too many holds.
        """
        view = self.board.view
        known = {one.backend.name for one in view.backends}
        if asked.backend not in known:
            raise HeadraceError(Code.NOT_FOUND, f"there is no backend {asked.backend!r}", param="backend")
        if asked.ttl_ms and (model := self._needs(asked)):
            text = f"{asked.backend} is the last backend of {model!r} that takes work"
            raise HeadraceError(Code.CONFLICT, text, param="backend")
        try:
            changed = self.registry.holds.put(asked)
        except ValueError as error:
            raise HeadraceError(Code.SATURATED, str(error)) from None
        if changed:
            what = "backend.held" if asked.ttl_ms else "backend.released"
            self._say(what, {"backend": asked.backend, "node": asked.node, "why": asked.why})
            self.board.refresh()

    def _needs(self, asked: HoldRequest) -> str:
        """Return a model that nobody else would serve; empty = there is none."""
        held = {
            hold.backend for hold in self.registry.holds.active if hold.node in ("", asked.node) or not asked.node
        }
        for model, places in self.board.view.serving.items():
            names = {place.view.backend.name for place in places if place.view.health == "up"}
            if asked.backend in names and not names - held - {asked.backend}:
                return model
        return ""

    def ailing(self, asked: AilingRequest) -> str:
        """Tell the arbiter of a sick backend's host, which may restart it; return the host.

        Raises:
            HeadraceError: NOT_FOUND; no arbiter speaks for that backend.
        """
        host = self.arbiters.host(asked.backend)
        if host is None:
            raise HeadraceError(Code.NOT_FOUND, f"no arbiter speaks for {asked.backend!r}", param="backend")
        self.on_ailing(host, Ailing(backend=asked.backend, why=asked.why))
        return host

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Probe the backends and forget lost edges for as long as the block runs."""
        tasks = [
            asyncio.create_task(self._sweep(), name="forget lost edges"),
            asyncio.create_task(self._grow_old(), name="see signals go stale"),
        ]
        if self.keyring is not None:
            tasks.append(asyncio.create_task(self.keyring.watch(), name="watch the key store"))
        self._watch_all()
        try:
            yield
        finally:
            self.board.close()
            tasks += (task for _, task in self._watching.values())
            self._watching.clear()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def reload(
        self,
        backends: tuple[Backend, ...],
        api_keys: Mapping[str, str],
        models: Models = Models(),  # noqa: B008 - frozen
    ) -> None:
        """Take other backends, aliases and policies: new ones are probed at once, and edges hear of the change."""
        self.registry.set_backends(backends, api_keys)
        self.registry.set_models(models)
        self._watch_all()
        log.event(_log, "control.reloaded", backends=[backend.name for backend in backends])

    def _watch_all(self) -> None:
        """Have one watch for each backend as it is configured now."""
        wanted = {backend.name: backend for backend in self.registry.backends}
        for name, (backend, task) in list(self._watching.items()):
            if wanted.get(name) != backend:
                task.cancel()
                del self._watching[name]
        for name, backend in wanted.items():
            if name not in self._watching:
                self._watching[name] = backend, asyncio.create_task(self._watch(backend), name=f"probe {name}")

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
        """Forget edges when they are lost, end holds that nobody renewed, and tell of both."""
        known: set[str] = set()
        while True:
            until_next_s = self.registry.forget_lost()
            known, before = {edge[0] for edge in self.registry.content().edges}, known
            for name, instances in (("edge.joined", known - before), ("edge.gone", before - known)):
                for instance in sorted(instances):
                    self._say(name, {"instance": instance}, level=logging.INFO)
            for hold in self.registry.holds.expire():
                fields = {"backend": hold.backend, "node": hold.node, "why": "nobody renewed it"}
                self._say("backend.released", fields)
                self.board.refresh()
            await asyncio.sleep(min(_SWEEP_S, max(0.001, until_next_s)))

    async def _grow_old(self) -> None:
        """Notice signals that go stale: what nobody says is news, too."""
        while True:
            await asyncio.sleep(self.arbiters.stale_in_s())
            self.board.refresh()

    def _say(self, name: str, fields: Mapping[str, object], *, level: int = logging.WARNING) -> None:
        log.event(_log, name, level=level, **fields)
        if self._on_event is not None:
            self._on_event(name, fields)

    def _tell(self, name: str, health: Health, detail: str) -> None:
        level = logging.INFO if health == "up" else logging.WARNING
        log.event(_log, f"backend.{health}", level=level, backend=name, detail=detail)
        if self._on_event is not None:
            self._on_event(f"backend.{health}", {"backend": name, "detail": detail})
