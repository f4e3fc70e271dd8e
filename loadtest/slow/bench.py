"""Takes the runs: the same paced neighbours alone, and beside a crowd of slow and frozen readers."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self
from urllib.parse import urlsplit

import msgspec

from loadtest.relay import proc
from loadtest.relay.children import Child
from loadtest.relay.gateways.base import Gateway, GatewayError
from loadtest.relay.load.side import LoadSide
from loadtest.relay.measure import Meter, measure_streams, warm_up
from loadtest.relay.runs import Run
from loadtest.relay.scenarios import StreamScenario
from loadtest.relay.stats import slope

#: Every buffer on the way is full long before.
FILL_S: Final = 3.0
SAMPLE_S: Final = 0.25


class CrowdSpec(msgspec.Struct, frozen=True, kw_only=True):
    """Who reads slowly."""

    slow: int
    frozen: int
    bytes_per_s: int


class Memory(msgspec.Struct, frozen=True, kw_only=True):
    """What a crowd's streams hold, and whether that grows. Kernel bytes are both ends of all connections."""

    rss_bytes_per_reader: float
    kernel_bytes_per_reader: float
    #: Least-squares slope over the window, for the whole gateway.
    rss_bytes_per_s: float
    kernel_bytes_per_s: float


class CrowdReport(msgspec.Struct, frozen=True, kw_only=True):
    """What became of the readers."""

    slow: int
    frozen: int
    slow_cut: int
    frozen_cut: int
    taken_bytes: int


class Pair(msgspec.Struct, frozen=True, kw_only=True):
    """One round of one gateway: its neighbours alone and beside the crowd."""

    gateway: str
    round: int
    alone: Run
    crowded: Run
    memory: Memory
    crowd: CrowdReport


@dataclass(frozen=True, slots=True)
class Plan:
    """What to run; `seconds` is the measuring window of each run."""

    gateways: Sequence[Gateway]
    rounds: int
    seconds: float
    neighbours: int
    crowd: CrowdSpec
    load_cpu: int
    gateway_cpu: int


class _Crowd:
    """The crowd's process."""

    def __init__(self, url: str, spec: CrowdSpec, cpu: int, scratch: Path) -> None:
        parts = urlsplit(url)
        numbers = map(str, (parts.port, spec.slow, spec.frozen, spec.bytes_per_s))
        command = [sys.executable, "-m", "loadtest.slow.crowd", str(parts.hostname), *numbers]
        self.child = Child("crowd", command, cpus={cpu}, log=scratch / "crowd.log", talks=True)

    def report(self) -> CrowdReport:
        """Ask what became of the readers; the first answer comes when all are connected."""
        self.child.stdin.write(b"\n")
        line = b""
        while not line.endswith(b"\n"):
            piece = self.child.stdout.read(65536)
            if not piece:
                raise GatewayError(self.child.epitaph("ended"))
            line += piece
        return msgspec.json.decode(line, type=CrowdReport)


class _Samples:
    """Memory by time, taken beside a run."""

    def __init__(self, meter: Meter) -> None:
        self._meter = meter
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._take, daemon=True)
        self.rows: list[tuple[float, int, int]] = []

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _take(self) -> None:
        while not self._over.wait(SAMPLE_S):
            self.rows.append((time.monotonic(), self._meter.path_rss_bytes(), proc.kernel_bytes()))


def run(plan: Plan, scratch: Path, say: Callable[[str], None]) -> list[Pair]:
    """Run the plan, gateways in turn within each round.

    Raises:
        GatewayError: a gateway does not run, or the crowd could not connect.
        LoadSideError: a load process failed.
    """
    pairs: list[Pair] = []
    for number in range(1, plan.rounds + 1):
        for gateway in plan.gateways:
            alone, _, _ = _one(plan, gateway, number, scratch, crowd=None)
            crowded, memory, crowd = _one(plan, gateway, number, scratch, crowd=plan.crowd)
            if memory is None or crowd is None:
                raise RuntimeError("a run with a crowd has a report of it")
            pairs.append(
                Pair(gateway=gateway.name, round=number, alone=alone, crowded=crowded, memory=memory, crowd=crowd)
            )
            say(f"  round {number} of {plan.rounds}  {gateway.name:<10} {_headline(pairs[-1])}")
    return pairs


def _one(
    plan: Plan, gateway: Gateway, number: int, scratch: Path, *, crowd: CrowdSpec | None
) -> tuple[Run, Memory | None, CrowdReport | None]:
    name = "crowded" if crowd else "alone"
    scenario = StreamScenario(name, plan.neighbours, 20)
    blank = Run(scenario=name, gateway=gateway.name, round=number)
    readers: _Crowd | None = None
    try:
        with LoadSide({plan.load_cpu}, scratch) as side:
            url = gateway.start(side.backend_url, {plan.gateway_cpu}, scratch)
            warm_up(url, side)
            meter = Meter(gateway, side, plan.load_cpu, plan.gateway_cpu)
            if crowd is None:
                return measure_streams(blank, scenario, url, side, meter, plan.seconds), None, None
            rss, kernel = meter.path_rss_bytes(), proc.kernel_bytes()
            readers = _Crowd(url, crowd, plan.load_cpu, scratch)
            readers.report()
            time.sleep(FILL_S)
            full_rss, full_kernel = meter.path_rss_bytes(), proc.kernel_bytes()
            with _Samples(meter) as samples:
                measured = measure_streams(blank, scenario, url, side, meter, plan.seconds)
            # From when the neighbours are open, too.
            late = samples.rows[len(samples.rows) // 4 :]
            count = crowd.slow + crowd.frozen
            memory = Memory(
                rss_bytes_per_reader=(full_rss - rss) / count,
                kernel_bytes_per_reader=(full_kernel - kernel) / count,
                rss_bytes_per_s=slope([(at, float(held)) for at, held, _ in late]),
                kernel_bytes_per_s=slope([(at, float(held)) for at, _, held in late]),
            )
            return measured, memory, readers.report()
    finally:
        if readers is not None:
            readers.child.stop()
        gateway.stop()


def _headline(pair: Pair) -> str:
    alone, crowded = pair.alone.gap_ms, pair.crowded.gap_ms
    gaps = f"gap p99 {alone.p99:.1f} -> {crowded.p99:.1f} ms" if alone and crowded else "no tokens"
    held = (pair.memory.rss_bytes_per_reader + pair.memory.kernel_bytes_per_reader) / 1024
    void = next((f"  VOID: {run.void}" for run in (pair.alone, pair.crowded) if run.void), "")
    return f"{gaps}, {held:.0f} KiB a reader{void}"
