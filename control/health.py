"""When a backend counts as up or down: hysteresis over what its probes found. No clock, no I/O."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from control.settings import ControlSettings

__all__ = ["BackendHealth", "Finding", "Health"]

Health = Literal["up", "down", "unknown"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What one probe found."""

    ok: bool
    #: What it serves from now on; None = as before.
    models: tuple[str, ...] | None = None
    #: A few words for a person: why it failed, or what is odd though it did not.
    detail: str = ""
    #: It failed by silence, and not by an answer or a refused connection.
    timed_out: bool = False


class BackendHealth:
    """One backend's health.

    A backend of unknown health believes its first probe, so that a start is quick; after that a change takes
    several probes that agree. Silence of an engine with requests in flight is weak evidence: it may only be busy.
    """

    __slots__ = ("_agreeing", "_busy_timeouts", "_settings", "detail", "health", "models")

    def __init__(self, settings: ControlSettings, models: tuple[str, ...]) -> None:
        self._settings = settings
        self._agreeing = 0
        self._busy_timeouts = 0
        self.health: Health = "unknown"
        self.detail = "not probed yet"
        #: What it serves: as configured or last discovered; None = nobody has said yet.
        self.models: tuple[str, ...] | None = models or None

    def observe(self, finding: Finding, *, inflight: int) -> None:
        """Take one probe's finding into account.

        Args:
            finding: what the probe found.
            inflight: requests that edges report in flight there.
        """
        if finding.models is not None:
            self.models = finding.models
        if finding.timed_out and inflight > 0:
            self._busy_timeouts += 1
            if self._busy_timeouts < self._settings.down_after_busy_timeouts:
                self.detail = "no answer to probes while requests are in flight"
                return
        else:
            self._busy_timeouts = 0
        self.detail = finding.detail
        seen: Health = "up" if finding.ok else "down"
        if seen == self.health:
            self._agreeing = 0
            return
        self._agreeing += 1
        if self.health == "unknown" or self._busy_timeouts or self._agreeing >= self._needed(seen):
            self.health = seen
            self._agreeing = 0

    def _needed(self, seen: Health) -> int:
        return self._settings.up_after_successes if seen == "up" else self._settings.down_after_failures
