"""The conformance suite over the faulty gateway, with deadlines short enough for tests."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from loadtest.conform.backend import Backend
from loadtest.conform.faulty.gateway import FaultyGateway
from loadtest.conform.http import Target
from loadtest.conform.rig import Rig, Timings
from loadtest.conform.suite import Result, all_cases, run_cases
from tests.support.timing import FACTOR

__all__ = ["TIMINGS", "verdicts"]

_MODEL = "conform"
_KEY = "sk-test"
TIMINGS = Timings(first_event_s=1.0 * FACTOR, idle_s=0.8 * FACTOR, heartbeat_s=0.2 * FACTOR)


async def _verdicts(faults: Iterable[str], only: Iterable[str] | None) -> dict[str, Result]:
    async with (
        Backend([("127.0.0.1", 0), ("127.0.0.1", 0)], _MODEL) as backend,
        FaultyGateway(backend.urls, _MODEL, _KEY, TIMINGS, faults) as gateway,
    ):
        rig = Rig(Target(gateway.url, _MODEL, _KEY), backend, TIMINGS, 2.5 * FACTOR)
        wanted = None if only is None else set(only)
        chosen = [case for case in all_cases() if wanted is None or case.id in wanted]
        return {result.id: result for result in await run_cases(rig, chosen, addresses=2)}


def verdicts(faults: Iterable[str] = (), only: Iterable[str] | None = None) -> dict[str, Result]:
    """Run cases (all, if left out) against a gateway with these faults; results by id."""
    return asyncio.run(_verdicts(faults, only))
