"""Takes one run: sends a scenario's load through a gateway that runs, and reads what it cost."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec

from loadtest.relay import proc
from loadtest.relay.gateways.base import Gateway, GatewayError
from loadtest.relay.load.messages import OpenStreams, Pace, RequestsReport, SendRequests
from loadtest.relay.load.side import LoadSide
from loadtest.relay.runs import Run
from loadtest.relay.scenarios import RequestScenario, StreamScenario
from loadtest.relay.void import void_reason

#: From the last stream's first token to the start of the measuring window.
SETTLE_S: Final = 0.5
DRAIN_S: Final = 30.0
OPEN_MARGIN_S: Final = 30.0
WARM_UP_REQUESTS: Final = 60


@dataclass(frozen=True, slots=True)
class Reading:
    """The counters of the machine at one moment."""

    at_ns: int
    tree_ns: dict[int, int]
    path_ns: dict[int, int]
    load_ns: dict[int, int]
    gateway_core: proc.CoreTime
    load_core: proc.CoreTime


class Meter:
    """Reads the counters for one gateway.

    Args:
        gateway: it runs.
        side: the load side.
        load_cpu: its core.
        gateway_cpu: the gateway's core.
    """

    def __init__(self, gateway: Gateway, side: LoadSide, load_cpu: int, gateway_cpu: int) -> None:
        self._gateway = gateway
        self._side = side
        self._load_cpu = load_cpu
        self._gateway_cpu = gateway_cpu

    def read(self) -> Reading:
        """Read them all, the time first."""
        tree = proc.tree(self._gateway.pids())
        path = proc.tree(self._gateway.path_pids())
        return Reading(
            at_ns=time.monotonic_ns(),
            tree_ns=proc.cpu_ns(tree),
            path_ns=proc.cpu_ns(path),
            load_ns=proc.cpu_ns(self._side.pids),
            gateway_core=proc.core_time(self._gateway_cpu),
            load_core=proc.core_time(self._load_cpu),
        )

    def path_rss_bytes(self) -> int:
        """Resident memory of the token path's processes, in bytes."""
        return proc.rss_bytes(proc.tree(self._gateway.path_pids()))

    @property
    def websocket(self) -> bool:
        """Streams are asked for over WebSocket."""
        return self._gateway.websocket

    @property
    def has_processes(self) -> bool:
        """False for no gateway at all: it has no cost."""
        return bool(self._gateway.pids())


@dataclass(frozen=True, slots=True)
class Cost:
    """What was spent between two readings."""

    seconds: float
    tree_us: float
    path_us: float
    gateway_busy: float
    foreign: float
    load_busy: float
    load_own: float

    @classmethod
    def between(cls, before: Reading, after: Reading, *, has_processes: bool) -> Cost:
        """Subtract two readings; without a gateway nobody's core can be disturbed."""
        seconds = (after.at_ns - before.at_ns) / 1e9
        tree_ns = proc.spent_ns(before.tree_ns, after.tree_ns)
        busy = proc.busy_share(before.gateway_core, after.gateway_core)
        own = tree_ns / 1e9 / seconds
        return cls(
            seconds=seconds,
            tree_us=tree_ns / 1000,
            path_us=proc.spent_ns(before.path_ns, after.path_ns) / 1000,
            gateway_busy=own,
            foreign=max(0.0, busy - own) if has_processes else 0.0,
            load_busy=proc.busy_share(before.load_core, after.load_core),
            load_own=proc.spent_ns(before.load_ns, after.load_ns) / 1e9 / seconds,
        )

    def shares(self, *, saturating: bool) -> dict[str, Any]:
        """Return the fields of a `Run` that every scenario has."""
        return {
            "window_s": self.seconds,
            "gateway_busy_share": self.gateway_busy,
            "foreign_share": self.foreign,
            "load_busy_share": self.load_busy,
            "load_own_share": self.load_own,
            "void": void_reason(foreign=self.foreign, load_busy=self.load_busy, saturating=saturating),
        }


def _address(url: str) -> tuple[str, int]:
    parts = urlsplit(url)
    return parts.hostname or "127.0.0.1", parts.port or 80


def warm_up(url: str, side: LoadSide) -> None:
    """Send a few short streams, so that imports, pools and caches are in place.

    Raises:
        GatewayError: none of them ended as it should.
    """
    host, port = _address(url)
    side.pace(Pace(interval_ns=5_000_000))
    report = side.send_requests(
        SendRequests(
            host=host,
            port=port,
            stream=True,
            max_tokens=4,
            rate_per_s=0,
            in_flight_max=4,
            count=WARM_UP_REQUESTS,
            seconds=10,
            deadline_s=20,
            seed=0,
        )
    )
    if not report.outcomes.whole:
        raise GatewayError(f"no stream came through: {report.complaint or report.outcomes}")


def measure_streams(
    blank: Run, scenario: StreamScenario, url: str, side: LoadSide, meter: Meter, seconds: float
) -> Run:
    """Open a scenario's streams, measure while they flow, end them.

    Args:
        blank: names the run; its figures are filled in.
        scenario: what to open.
        url: the gateway's.
        side: the load side.
        meter: reads the counters.
        seconds: length of the measuring window.
    """
    host, port = _address(url)
    rss, kernel = meter.path_rss_bytes(), proc.kernel_bytes()
    side.pace(Pace(interval_ns=scenario.interval_ns, step=scenario.step))
    side.open_streams(
        OpenStreams(
            host=host,
            port=port,
            count=scenario.streams,
            ramp_per_s=scenario.ramp_per_s,
            deadline_s=scenario.streams / scenario.ramp_per_s + OPEN_MARGIN_S,
            counts_only=scenario.saturating,
            websocket=meter.websocket,
            resumable=scenario.resumable,
        )
    )
    time.sleep(SETTLE_S)
    rss_open, kernel_open = meter.path_rss_bytes(), proc.kernel_bytes()
    before = meter.read()
    time.sleep(max(seconds, scenario.window_s))
    after = meter.read()
    rss_held = meter.path_rss_bytes()
    pacing = side.pacing()
    report = side.finish_streams((before.at_ns, after.at_ns), DRAIN_S)
    cost = Cost.between(before, after, has_processes=meter.has_processes)
    due = scenario.streams * scenario.tokens_per_s * cost.seconds
    per_token = meter.has_processes and report.tokens
    return msgspec.structs.replace(
        blank,
        **cost.shares(saturating=scenario.saturating),
        complaint=report.complaint,
        tokens=report.tokens,
        delivered_share=report.tokens / due if due else None,
        outcomes=report.outcomes,
        cpu_us_per_token=cost.path_us / report.tokens if per_token else None,
        tree_cpu_us_per_token=cost.tree_us / report.tokens if per_token else None,
        transit_us=report.transit_us,
        gap_ms=report.gap_ms,
        ttft_ms=report.ttft_ms,
        late_us=pacing.late_us,
        rss_bytes_per_stream=(rss_open - rss) / scenario.streams if scenario.memory and rss else None,
        rss_growth_bytes=rss_held - rss_open if scenario.memory and rss else None,
        kernel_bytes_per_stream=(kernel_open - kernel) / scenario.streams if scenario.memory else None,
    )


def measure_requests(
    blank: Run, scenario: RequestScenario, url: str, side: LoadSide, meter: Meter, seconds: float
) -> Run:
    """Send a scenario's requests and measure from the first to the last; arguments as `measure_streams`."""
    host, port = _address(url)
    side.pace(Pace(interval_ns=scenario.interval_ns))
    before = meter.read()
    report: RequestsReport = side.send_requests(
        SendRequests(
            host=host,
            port=port,
            stream=scenario.stream,
            max_tokens=scenario.tokens,
            rate_per_s=scenario.rate_per_s,
            in_flight_max=scenario.in_flight_max,
            count=10_000_000,
            seconds=seconds,
            deadline_s=DRAIN_S,
            seed=blank.round,
        )
    )
    after = meter.read()
    cost = Cost.between(before, after, has_processes=meter.has_processes)
    whole = report.outcomes.whole
    per_request = meter.has_processes and whole
    return msgspec.structs.replace(
        blank,
        **cost.shares(saturating=scenario.saturating),
        complaint=report.complaint,
        requests=whole,
        outcomes=report.outcomes,
        skipped=report.skipped,
        cpu_us_per_request=cost.path_us / whole if per_request else None,
        tree_cpu_us_per_request=cost.tree_us / whole if per_request else None,
        ttft_ms=report.ttft_ms,
    )
