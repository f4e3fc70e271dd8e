"""What the relays of one edge have at their disposal, and how hard they may try."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from edge.relay.backends import Backends
from edge.relay.continuation import Continuations
from edge.relay.hedge import Hedging
from edge.relay.runner import LegTimings
from edge.relay.waiting import WaitingRoom
from streamkit.flow.retry_budget import RetryBudget
from streamkit.ops.metrics import Metrics

__all__ = ["Means", "RelaySettings"]


class RelaySettings(msgspec.Struct, frozen=True, kw_only=True):
    """How hard to try."""

    max_attempts: int
    finish_grace_s: float
    legs: LegTimings


@dataclass(frozen=True, slots=True, kw_only=True)
class Means:
    """Shared by all relays of an edge."""

    backends: Backends
    #: Where requests wait while backends are full.
    room: WaitingRoom
    hedging: Hedging
    #: For models whose answers may be continued.
    continuations: Continuations
    #: Of the worker's retries.
    budget: RetryBudget
    settings: RelaySettings
    metrics: Metrics
