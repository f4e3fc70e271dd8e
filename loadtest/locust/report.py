"""From answers to Locust's statistics, and from those to the exit status of a run without a page."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from loadtest.locust.answer import Answer

if TYPE_CHECKING:
    from locust.env import Environment

__all__ = ["FaultError", "Reporter", "judge"]

STREAM: Final = "stream"
TTFT: Final = "ttft"
GAP: Final = "gap"
JITTER: Final = "jitter"
#: A stream that ended before its answer did.
DISCONNECT: Final = "disconnect"
RESUME: Final = "resume"
#: Limits by the variable that sets them: of which statistic, at which quantile, in milliseconds.
_LIMITS: Final = (("TTFT_MS", TTFT, 0.95, 1_000), ("GAP_MS", GAP, 0.99, 250), ("JITTER_MS", JITTER, 0.95, 100))


class FaultError(Exception):
    """An answer that is not whole; its text is what Locust groups failures by."""


class Reporter:
    """Fires one user's measurements.

    Args:
        environment: Locust's.
        kind: the column `Type` of its tables: SSE, WS.
    """

    def __init__(self, environment: Environment, kind: str) -> None:
        self._environment = environment
        self._kind = kind

    def told(self, name: str, milliseconds: float, *, fault: str | None = None, length: int = 0) -> None:
        """Report one measurement."""
        self._environment.events.request.fire(
            request_type=self._kind,
            name=name,
            response_time=milliseconds,
            response_length=length,
            exception=None if fault is None else FaultError(fault),
            context={},
        )

    def answered(self, answer: Answer, ended_s: float, *, broke: str | None = None) -> None:
        """Report a whole answer, or what is wrong with it.

        Args:
            answer: as it came.
            ended_s: when it ended.
            broke: why the connection ended before the answer did; None = it did not.
        """
        fault = answer.error or broke or answer.fault
        self.told(STREAM, (ended_s - answer.begun_s) * 1000, fault=fault, length=len(answer.tokens_s))
        if broke is not None or (not answer.done and answer.error is None):
            self.told(DISCONNECT, 0, fault=broke or "no [DONE]")
        if answer.ttft_ms is not None:
            self.told(TTFT, answer.ttft_ms)
        for gap in answer.gaps_ms:
            self.told(GAP, gap)
        if answer.jitter_ms is not None:
            self.told(JITTER, answer.jitter_ms)


def judge(environment: Environment) -> None:
    """Set the exit status of a run: 1 where anything failed, nothing ran, or a limit is exceeded."""
    faults = [*_faults(environment)]
    for fault in faults:
        print(f"headrace: {fault}")
    environment.process_exit_code = 1 if faults else 0


def _faults(environment: Environment) -> Iterator[str]:
    stats = environment.stats
    if not any(entry.num_requests for (name, _), entry in stats.entries.items() if name in (STREAM, RESUME, "whep")):
        yield "nothing was measured"
    if stats.total.num_failures:
        yield f"{stats.total.num_failures} of {stats.total.num_requests} measurements are failures"
    for variable, name, quantile, usual in _LIMITS:
        given = os.environ.get(variable, str(usual))
        try:
            limit = float(given)
        except ValueError:
            yield f"{variable}: expected milliseconds, got {given}"
            continue
        for (entry, kind), found in stats.entries.items():
            value = found.get_response_time_percentile(quantile) if entry == name and found.num_requests else 0
            if value > limit:
                yield f"{kind} {name}: p{quantile * 100:.0f} is {value:.0f} ms, {variable} is {limit:.0f}"
