"""One run: one gateway, one scenario, once; and the report that holds them all.

The JSON file (`--json`) is a `Report`, schema `headrace.bench.relay/1`:

- `machine`, `settings`, `rule`: where and how it was measured, and when a run is void;
- `gateways`: name, version, and why one is missing;
- `runs`: every run, void and failed ones too, one `Run` each;
- `summary`: for each scenario and gateway the median, smallest and largest value over its clean runs of each
  metric, and the same of its ratio to nginx and of its ratio and difference to direct within a round;
- `verdicts`: the budgets, `met` true, false, or null when there is nothing to compare.

Units end each field's name: `_us`, `_ms`, `_s`, `_bytes`; `_share` is 0 to 1.
"""

from __future__ import annotations

from typing import Final

import msgspec

from loadtest.relay.load.messages import Outcomes
from loadtest.relay.stats import Quantiles, Spread

SCHEMA: Final = "headrace.bench.relay/1"


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """What one run showed. A figure that its scenario does not have is null."""

    scenario: str
    gateway: str
    #: Counted from 1; the gateways' runs of one round stand side by side in time.
    round: int
    #: Counted from 1; more than 1 when earlier attempts were void.
    attempt: int = 1
    #: Why it does not count (see `void`).
    void: str | None = None
    #: Why there are no figures.
    failed: str | None = None
    #: First complaint of the gateway that the client saw.
    complaint: str = ""

    window_s: float = 0.0
    #: Tokens (streams) or answers (requests) that the client received in the window.
    tokens: int = 0
    requests: int = 0
    #: Tokens received of those that were due.
    delivered_share: float | None = None
    outcomes: Outcomes = Outcomes()
    #: Arrivals given up because too many requests were under way.
    skipped: int = 0

    #: CPU of the processes on the token path, and of the gateway's whole tree.
    cpu_us_per_token: float | None = None
    tree_cpu_us_per_token: float | None = None
    cpu_us_per_request: float | None = None
    tree_cpu_us_per_request: float | None = None

    transit_us: Quantiles | None = None
    gap_ms: Quantiles | None = None
    #: To the first token, or to the whole answer when it is not a stream.
    ttft_ms: Quantiles | None = None
    #: How late the backend sent its tokens.
    late_us: Quantiles | None = None

    #: Growth of the token path's resident memory from before the streams to all open, over their number.
    rss_bytes_per_stream: float | None = None
    #: Growth while they were held open, in all.
    rss_growth_bytes: int | None = None
    #: Growth of the kernel's memory on the whole machine (TCP buffers and unreclaimable slab: both ends of all
    #: connections) over their number; what direct has is the client's and the backend's.
    kernel_bytes_per_stream: float | None = None

    #: Of one core each: the gateway's tree, others on its core, and everything on the load side's core.
    gateway_busy_share: float = 0.0
    foreign_share: float = 0.0
    load_busy_share: float = 0.0
    #: The benchmark's backend and client alone.
    load_own_share: float = 0.0

    @property
    def clean(self) -> bool:
        """It counts."""
        return self.void is None and self.failed is None


class Machine(msgspec.Struct, frozen=True, kw_only=True):
    """Where it was measured."""

    cpu: str
    cpus: int
    kernel: str
    python: str
    memory_bytes: int


class GatewayInfo(msgspec.Struct, frozen=True, kw_only=True):
    """A gateway, and why it is missing, if it is."""

    name: str
    version: str = ""
    missing: str | None = None


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """How it was measured."""

    quick: bool
    rounds: int
    seconds: float
    load_cpu: int
    gateway_cpu: int
    scenarios: tuple[str, ...]


class Rule(msgspec.Struct, frozen=True, kw_only=True):
    """When a run is void, and how often it is repeated."""

    foreign_max_share: float
    load_busy_max_share: float
    repeats: int


class Figure(msgspec.Struct, frozen=True, kw_only=True):
    """One metric of one gateway in one scenario, over its clean runs."""

    value: Spread
    ratio_to_nginx: Spread | None = None
    ratio_to_direct: Spread | None = None
    minus_direct: Spread | None = None


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """One gateway in one scenario."""

    scenario: str
    gateway: str
    clean: int
    void: int
    failed: int
    #: Streams or requests that did not end as they should, over the clean runs.
    lost: int
    #: The figures are those of void runs, because no run was clean.
    contended: bool
    figures: dict[str, Figure]


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """One budget, and whether it is kept."""

    figure: str
    budget: str
    measured: str
    met: bool | None


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """Everything, as it is written to the JSON file."""

    schema: str = SCHEMA
    machine: Machine
    settings: Settings
    rule: Rule
    gateways: list[GatewayInfo]
    runs: list[Run]
    summary: list[Summary]
    verdicts: list[Verdict]
