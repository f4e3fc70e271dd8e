"""What control knows: each backend's health, the edges heard of, the keys. In memory, filled by probes and syncs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import msgspec

from control.arbiters import Arbiters
from control.health import BackendHealth, Finding, Health
from control.holds import Holds
from control.settings import ControlSettings
from control.spending import Spending
from control.view import BackendView, View
from streamkit.flow.clock import MONOTONIC, Clock
from streamkit.wire.backend import Backend
from streamkit.wire.errors import Code, HeadraceError
from streamkit.wire.keys import KeySnapshot
from streamkit.wire.models import Models
from streamkit.wire.state import (
    BackendState,
    EdgeReport,
    Freshness,
    Header,
    Hold,
    Pressure,
    Residence,
    Snapshot,
    freshness,
)
from streamkit.wire.telemetry import SpentState

__all__ = ["Content", "Registry"]


@dataclass(frozen=True, slots=True)
class Content:
    """What tells one snapshot from another. Ages and counts move all the time and are left out."""

    backends: tuple[tuple[Backend, Health, tuple[str, ...] | None, str], ...]
    #: What arbiters say of each backend, and whether that is fresh: the age itself is no news.
    pressure: tuple[tuple[Pressure, Freshness, dict[str, Residence]] | None, ...]
    edges: tuple[tuple[str, str, str, str, bool], ...]
    keys: KeySnapshot
    models: Models
    holds: tuple[Hold, ...] = ()
    spent: SpentState | None = None


class _Engine:
    """One backend and when its last probe finished."""

    __slots__ = ("api_key", "backend", "health", "probed_at")

    def __init__(self, backend: Backend, settings: ControlSettings, api_key: str, now: float) -> None:
        self.backend = backend
        self.health = BackendHealth(settings, backend.models)
        self.api_key = api_key
        self.probed_at = now


class _Edge:
    """One edge instance, its last report, and the syncs of it that wait here now."""

    __slots__ = ("heard_at", "holds", "report", "reported_at")

    def __init__(self, report: EdgeReport, now: float) -> None:
        self.report = report
        self.reported_at = now
        self.heard_at = now
        self.holds = 0


class Registry:
    """Backends and live edges, behind one `on_change` hook.

    Args:
        backends: as configured.
        settings: control's own.
        api_keys: the engines' bearer tokens by backend name, where they ask for one.
        clock: monotonic seconds.
        arbiters: what they say; of no arbiter when left out.
        on_backend: called with a backend's name, new health and detail when its health has changed.
    """

    def __init__(
        self,
        backends: tuple[Backend, ...],
        settings: ControlSettings,
        *,
        api_keys: Mapping[str, str] | None = None,
        clock: Clock = MONOTONIC,
        arbiters: Arbiters | None = None,
        on_backend: Callable[[str, Health, str], None] | None = None,
    ) -> None:
        self.arbiters = arbiters or Arbiters(clock)
        self.holds = Holds(clock)
        self.spending = Spending()
        #: Called after anything has changed that `content` shows.
        self.on_change: Callable[[], None] | None = None
        self._settings = settings
        self._clock = clock
        self._on_backend = on_backend
        self._keys = KeySnapshot()
        self._edges: dict[str, _Edge] = {}
        self._engines: dict[str, _Engine] = {}
        self._models = Models()
        self.set_backends(backends, api_keys or {})

    @property
    def live_edges(self) -> int:
        """Edges that take new work: heard of, and not draining."""
        return sum(not edge.report.draining for edge in self._edges.values())

    @property
    def backends(self) -> tuple[Backend, ...]:
        """The backends as configured."""
        return tuple(engine.backend for engine in self._engines.values())

    def set_models(self, models: Models) -> None:
        """Replace what is configured about models."""
        self._models = models
        self._changed()

    def set_backends(self, backends: tuple[Backend, ...], api_keys: Mapping[str, str]) -> None:
        """Replace the backends; what is known of one that stays as it is stays known."""
        before, self._engines = self._engines, {}
        for backend in backends:
            key = api_keys.get(backend.name, "")
            known = before.get(backend.name)
            if known is None or known.backend != backend or known.api_key != key:
                known = _Engine(backend, self._settings, key, self._clock())
            self._engines[backend.name] = known
        self._changed()

    def api_key(self, name: str) -> str:
        """Return the bearer token that the backend's engine asks for; empty = none."""
        return self._engines[name].api_key

    def inflight(self, name: str) -> int:
        """Return the requests in flight at a backend, as the edges last reported them."""
        return sum(edge.report.inflight.get(name, 0) for edge in self._edges.values())

    def observe(self, name: str, finding: Finding) -> None:
        """Take in what a probe of the backend `name` found; one that was removed meanwhile is nobody's."""
        engine = self._engines.get(name)
        if engine is None:
            return
        health = engine.health
        before = (health.health, health.models, health.detail)
        health.observe(finding, inflight=self.inflight(name))
        engine.probed_at = self._clock()
        if (health.health, health.models, health.detail) == before:
            return
        self._changed()
        if health.health != before[0] and self._on_backend is not None:
            self._on_backend(name, health.health, health.detail)

    def set_keys(self, keys: KeySnapshot) -> None:
        """Replace the keys that edges authenticate with."""
        if keys != self._keys:
            self._keys = keys
            self._changed()

    @contextmanager
    def hearing(self, report: EdgeReport) -> Iterator[None]:
        """Take in an edge's report, and count the edge as heard of until the block ends.

        An edge that waits for news over an open connection is alive, however long it waits.

        Raises:
            HeadraceError: `max_edges` instances are remembered already.
        """
        edge = self._heard(report)
        edge.holds += 1
        try:
            yield
        finally:
            edge.holds -= 1
            edge.heard_at = self._clock()

    def forget_lost(self) -> float:
        """Forget edges not heard of for `edge_lost_ms`; return seconds until the next one could be lost."""
        now, limit_s = self._clock(), self._settings.edge_lost_ms / 1000
        quiet = {name: now - edge.heard_at for name, edge in self._edges.items() if edge.holds == 0}
        lost = [name for name, quiet_s in quiet.items() if quiet_s >= limit_s]
        for name in lost:
            del self._edges[name], quiet[name]
        if lost:
            self._changed()
        return limit_s - max(quiet.values(), default=0.0)

    def content(self) -> Content:
        """Return what snapshots are compared by."""
        return Content(
            tuple(
                (engine.backend, engine.health.health, engine.health.models, engine.health.detail)
                for engine in self._engines.values()
            ),
            tuple(self._pressure(name) for name in self._engines),
            tuple((name, *_shown(edge.report)) for name, edge in sorted(self._edges.items())),
            self._keys,
            self._models,
            self.holds.active,
            self.spending.of(self._keys),
        )

    def snapshot(self, header: Header, routes: int = 0) -> Snapshot:
        """Return the whole state as it crosses the wire, with ages as of now."""
        now = self._clock()
        return Snapshot(
            header=header,
            routes=routes,
            backends=tuple(
                BackendState(
                    name=name,
                    health=engine.health.health,
                    models=engine.health.models or (),
                    age_ms=_ms(now - engine.probed_at),
                    detail=engine.health.detail,
                )
                for name, engine in self._engines.items()
            ),
            edges=tuple(_aged(edge, now) for _, edge in sorted(self._edges.items())),
            arbiters=self.arbiters.states(),
            keys=self._keys,
            aliases=self._models.aliases,
            holds=self.holds.active,
            spent=self.spending.of(self._keys),
        )

    def view(self, instance: str, sequence: int) -> View:
        """Return what decisions look at."""
        return View.of(
            instance,
            sequence,
            self.live_edges,
            (self._seen(engine) for engine in self._engines.values()),
            self._models,
        )

    def _seen(self, engine: _Engine) -> BackendView:
        word = self.arbiters.word(engine.backend.name)
        return BackendView(
            backend=engine.backend,
            health=engine.health.health,
            models=engine.health.models,
            detail=engine.health.detail,
            capabilities=engine.backend.effective_capabilities(),
            api_key=engine.api_key,
            pressure=None if word is None else word.pressure,
            pressure_age_ms=None if word is None else word.age_ms,
            residence=word.models if word is not None and freshness(word.age_ms) is Freshness.FRESH else {},
            held="" in self.holds.of(engine.backend.name),
        )

    def _pressure(self, name: str) -> tuple[Pressure, Freshness, dict[str, Residence]] | None:
        word = self.arbiters.word(name)
        return None if word is None else (word.pressure, freshness(word.age_ms), word.models)

    def _heard(self, report: EdgeReport) -> _Edge:
        name, now = report.header.instance, self._clock()
        edge = self._edges.get(name)
        if edge is None:
            if len(self._edges) >= self._settings.max_edges:
                raise HeadraceError(Code.SATURATED, f"control remembers max_edges = {len(self._edges)} edges already")
            edge = self._edges[name] = _Edge(report, now)
            self._changed()
            return edge
        edge.heard_at = now
        before = edge.report
        # Two syncs of one edge may overtake each other; the newer report stands (law 9).
        if report.header.sequence >= before.header.sequence:
            edge.report, edge.reported_at = report, now
            if _shown(report) != _shown(before):
                self._changed()
        return edge

    def _changed(self) -> None:
        if self.on_change is not None:
            self.on_change()


def _shown(report: EdgeReport) -> tuple[str, str, str, bool]:
    """Return what makes news of an edge."""
    return (report.region, report.peer_url, report.peer_socket, report.draining)


def _aged(edge: _Edge, now: float) -> EdgeReport:
    header = edge.report.header
    age_ms = header.age_ms + _ms(now - edge.reported_at)
    return msgspec.structs.replace(edge.report, header=msgspec.structs.replace(header, age_ms=age_ms))


def _ms(seconds: float) -> int:
    return int(seconds * 1000)
