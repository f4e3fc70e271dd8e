"""Every path, probed again and again, and what the detector makes of it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import ssl
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from time import monotonic
from typing import Any, Final, Self

from observe.detect import PathHealth, Probe, Rule
from observe.heal import Path
from observe.healing import Healing, Tell
from observe.listed import Listed, listed
from observe.probe import Prober
from observe.settings import HealingSettings, ProberSettings
from streamkit.ops import catalog, log
from streamkit.ops.exposure import secret_from
from streamkit.ops.http_client import Headers, HttpClient
from streamkit.ops.metrics import Metrics
from streamkit.ops.tls import trusting

__all__ = ["Probing"]

_log = logging.getLogger(__name__)
_TICK_S: Final = 0.5
_JITTER: Final = 0.1
#: Probes under way at a time; a further one waits before its time is taken, so that waiting is no lateness.
_PROBES: Final = 128


@dataclass(slots=True)
class _Path:
    health: PathHealth
    task: asyncio.Task[None]
    model: str
    node: str = ""
    counts: dict[str, int] = field(default_factory=lambda: defaultdict(int))


class Probing:
    """The prober at work.

    Args:
        settings: `[prober]`.
        healing: `[healing]`.
        key: an operator's key; empty = none is needed.
        secret: control's; empty = none is asked.
        tls: what https addresses must show; None = the system's authorities.
    """

    def __init__(
        self,
        settings: ProberSettings,
        healing: HealingSettings,
        *,
        key: str = "",
        secret: str = "",
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._settings = settings
        self._key = key
        self._tls = tls
        self._headers: Headers = (("authorization", f"Bearer {secret}"),) if secret else ()
        self._healing = Healing(healing, settings.control_url, self._headers)
        self._paths: dict[tuple[str, str], _Path] = {}
        #: As control listed them last.
        self._backends: dict[str, Listed] = {}
        self._changed = asyncio.Event()
        self._room = asyncio.Semaphore(_PROBES)
        self._metrics: Metrics | None = None
        self._tell: Tell = lambda _name, _fields: None
        self._rule = Rule(
            ttft_floor_s=settings.ttft_floor_ms / 1000,
            ttft_times=settings.ttft_times,
            gap_floor_s=settings.gap_floor_ms / 1000,
            gap_times=settings.gap_times,
            baseline_probes=settings.baseline_probes,
            baseline_kept=settings.baseline_kept,
            sick_after=settings.sick_after,
            well_after=settings.well_after,
        )

    @classmethod
    def of(cls, settings: ProberSettings, healing: HealingSettings) -> Self | None:
        """Return it as configured; None = no edge is to be probed.

        Raises:
            SettingsError: a variable is not set, or a file cannot be used.
        """
        if not settings.edges:
            return None
        return cls(
            settings,
            healing,
            key=secret_from(settings.key_env, "prober.key_env"),
            secret=secret_from(settings.control_secret_env, "prober.control_secret_env"),
            tls=trusting(settings.ca_file, "prober.ca_file") if settings.ca_file else None,
        )

    def show(self, metrics: Metrics) -> None:
        """Have figures shown, by path."""
        self._metrics = metrics
        metrics.watch(catalog.PATH_SICK, lambda: [(key, float(one.health.sick)) for key, one in self._paths.items()])
        metrics.watch(catalog.PROBES, self._probes)
        self._healing.show(metrics)

    def shown(self) -> list[dict[str, Any]]:
        """Return how the paths are, for the page."""
        return [
            {
                "edge": edge, "backend": backend, "node": one.node, "model": one.model, "sick": one.health.sick,
                "why": one.health.why, "result": one.health.last.result if one.health.last is not None else None,
                "ttft_ms": _ms(one.health.last.ttft_s if one.health.last is not None else None),
                "usual_ttft_ms": _ms(one.health.usual_ttft_s), "usual_gap_ms": _ms(one.health.usual_gap_s),
                "held": self._healing.holds(backend, one.node),
            }
            for (edge, backend), one in sorted(self._paths.items())
        ]  # fmt: skip

    async def run(self, tell: Tell) -> None:
        """Probe and heal for ever.

        Args:
            tell: told of each change and each act, as an event.
        """
        self._tell = tell
        settings = self._settings
        async with HttpClient(tls=self._tls, max_connections=_PROBES + 8) as http:
            prober = Prober(http, key=self._key, tokens=settings.tokens, timeout_ms=settings.timeout_ms)
            try:
                while True:
                    self._changed.clear()
                    backends = await listed(http, settings.control_url, self._headers)
                    self._look(backends, prober)
                    await self._healing.heal(http, self._seen_paths(), backends, tell)
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(_TICK_S):
                            await self._changed.wait()
            finally:
                tasks = [one.task for one in self._paths.values()]
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)

    def _look(self, backends: dict[str, Listed] | None, prober: Prober) -> None:
        """Have one task for each path; while control does not answer, for those that there were."""
        if backends is not None:
            self._backends = backends
        wanted: dict[tuple[str, str], str] = {}
        for edge in self._settings.edges:
            for line in self._backends.values():
                known = self._paths.get((edge, line.name))
                if model := line.probed_model(known.model if known is not None else ""):
                    wanted[edge, line.name] = model
        for key in [key for key in self._paths if key not in wanted]:
            self._paths.pop(key).task.cancel()
        for key, model in wanted.items():
            path = self._paths.get(key)
            if path is None:
                health = PathHealth(self._rule)
            elif path.model != model:
                # Another model has its own usual times; a path that is sick has to be well with this one first.
                path.task.cancel()
                health = PathHealth(self._rule, sick=path.health.sick, why=path.health.why)
            else:
                continue
            task = asyncio.create_task(self._probe_on(prober, key, model, health), name=f"probe {key}")
            if path is None:
                self._paths[key] = _Path(health, task, model)
            else:
                path.health, path.task, path.model = health, task, model

    async def _probe_on(self, prober: Prober, key: tuple[str, str], model: str, health: PathHealth) -> None:
        every_s = self._settings.every_ms / 1000
        # Not all paths at one moment.
        await asyncio.sleep(every_s * random.random())  # noqa: S311 - spreads probes in time
        while True:
            began = monotonic()
            try:
                async with self._room:
                    probed = await prober.probe(*key, model)
            except Exception:  # noqa: BLE001 - a probe's outermost frame: one bug must not end the watch
                _log.exception("probe.error", extra={"path": key})
            else:
                self._seen(key, probed.probe, probed.node, health)
            pause_s = every_s * random.uniform(1 - _JITTER, 1 + _JITTER)  # noqa: S311 - spreads probes in time
            await asyncio.sleep(max(0.0, began + pause_s - monotonic()))

    def _seen(self, key: tuple[str, str], probe: Probe, node: str, health: PathHealth) -> None:
        path = self._paths.get(key)
        if path is None or path.health is not health:
            return
        path.node = node or path.node
        path.counts[probe.result] += 1
        if self._metrics is not None and probe.ttft_s is not None:
            self._metrics.histogram(catalog.PROBE_TTFT, *key).observe(probe.ttft_s)
            if probe.gap_s is not None:
                self._metrics.histogram(catalog.PROBE_GAP, *key).observe(probe.gap_s)
        if health.see(probe):
            what = "path.sick" if health.sick else "path.well"
            fields = {"edge": key[0], "backend": key[1], "node": path.node, "why": health.why}
            log.event(_log, what, level=logging.WARNING, **fields)
            self._tell(what, fields)
            self._changed.set()

    def _seen_paths(self) -> list[Path]:
        return [Path(one.node, backend, one.health.sick, one.health.why) for (_, backend), one in self._paths.items()]

    def _probes(self) -> Iterable[tuple[tuple[str, ...], float]]:
        for key, one in self._paths.items():
            for result, count in one.counts.items():
                yield (*key, result), float(count)


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds * 1000, 1)
