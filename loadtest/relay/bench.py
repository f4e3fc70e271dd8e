"""Runs gateways and scenarios in interleaved rounds, repeats void runs, and says how it goes."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from loadtest.relay.gateways.base import Gateway, GatewayError
from loadtest.relay.load.side import LoadSide
from loadtest.relay.measure import Meter, measure_requests, measure_streams, warm_up
from loadtest.relay.metrics import headline
from loadtest.relay.runs import Run
from loadtest.relay.scenarios import Scenario, StreamScenario

#: A gateway that fails so often in a row is left out of the rest.
FAILURES_MAX: Final = 2


@dataclass(frozen=True, slots=True)
class Plan:
    """What to run.

    Args:
        gateways: in the order of a round.
        scenarios: one after the other, all rounds of each.
        rounds: runs of each gateway in each scenario.
        seconds: length of a measuring window.
        repeats: how often a void run is taken again at most.
        load_cpu: the load side's core.
        gateway_cpu: the gateway's core.
    """

    gateways: Sequence[Gateway]
    scenarios: Sequence[Scenario]
    rounds: int
    seconds: float
    repeats: int
    load_cpu: int
    gateway_cpu: int

    def pairs(self, scenario: Scenario) -> list[Gateway]:
        """Return the gateways that a scenario is for: over WebSocket there are long streams only."""
        return [one for one in self.gateways if isinstance(scenario, StreamScenario) or not one.websocket]

    @property
    def cells(self) -> int:
        """Runs without repetitions."""
        return sum(len(self.pairs(scenario)) for scenario in self.scenarios) * self.rounds

    def estimate_s(self) -> float:
        """Guess how long it takes, without repetitions, in seconds."""
        each_round = sum(scenario.estimate_s(self.seconds) * len(self.pairs(scenario)) for scenario in self.scenarios)
        return each_round * self.rounds


class Bench:
    """Carries out a plan.

    Args:
        plan: what to run.
        scratch: folder for logs and configuration files.
        say: takes progress lines.
    """

    def __init__(self, plan: Plan, scratch: Path, say: Callable[[str], None]) -> None:
        self._plan = plan
        self._scratch = scratch
        self._say = say
        self._estimated_s = 0.0
        self._taken_s = 0.0
        self._number = 0
        #: Filled as it goes, so that an interrupted benchmark still has what it measured.
        self.runs: list[Run] = []

    def run(self) -> None:
        """Run everything.

        Raises:
            LoadSideError: a load process failed.
        """
        plan = self._plan
        failures: dict[str, int] = {}
        for scenario in plan.scenarios:
            self._say(f"\n{scenario.name}: {scenario.title}")
            for number in range(1, plan.rounds + 1):
                for gateway in plan.pairs(scenario):
                    self._number += 1
                    if failures.get(gateway.name, 0) >= FAILURES_MAX:
                        continue
                    runs = self._cell(gateway, scenario, number)
                    failed = runs[-1].failed is not None
                    failures[gateway.name] = failures.get(gateway.name, 0) + 1 if failed else 0

    def _cell(self, gateway: Gateway, scenario: Scenario, number: int) -> list[Run]:
        """One gateway's runs in one round: the first, and its repetitions while they are void."""
        runs: list[Run] = []
        for attempt in range(1, self._plan.repeats + 2):
            started = time.monotonic()
            run = self._attempt(gateway, scenario, number, attempt)
            runs.append(run)
            self.runs.append(run)
            if attempt == 1:
                self._estimated_s += scenario.estimate_s(self._plan.seconds)
            self._taken_s += time.monotonic() - started
            self._tell(run)
            if run.void is None:
                break
        return runs

    def _attempt(self, gateway: Gateway, scenario: Scenario, number: int, attempt: int) -> Run:
        plan = self._plan
        blank = Run(scenario=scenario.name, gateway=gateway.name, round=number, attempt=attempt)
        scratch = self._scratch / f"{scenario.name}-{gateway.name}"
        scratch.mkdir(exist_ok=True)
        try:
            # Fresh processes for each run: no gateway pays for what came before.
            with LoadSide({plan.load_cpu}, scratch) as side:
                url = gateway.start(side.backend_url, {plan.gateway_cpu}, scratch)
                warm_up(url, side)
                meter = Meter(gateway, side, plan.load_cpu, plan.gateway_cpu)
                measure = measure_streams if isinstance(scenario, StreamScenario) else measure_requests
                return measure(blank, scenario, url, side, meter, plan.seconds)  # type: ignore[arg-type]
        except GatewayError as error:
            return msgspec.structs.replace(blank, failed=str(error))
        finally:
            gateway.stop()

    def _tell(self, run: Run) -> None:
        plan = self._plan
        pace = self._taken_s / self._estimated_s if self._estimated_s else 1.0
        left_s = max(0.0, plan.estimate_s() - self._estimated_s) * pace
        if run.failed:
            what = "FAILED: " + run.failed.splitlines()[0]
        else:
            what = headline(run) + (f"  VOID: {run.void}" if run.void else "")
        self._say(
            f"  [{self._number}/{plan.cells}] round {run.round} of {plan.rounds}  {run.gateway:<17} {what}"
            f"  ({_minutes(left_s)} left)"
        )
        if run.complaint:
            self._say(f"      first complaint: {run.complaint[:160]}")


def _minutes(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} min"
