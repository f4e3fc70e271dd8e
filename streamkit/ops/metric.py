"""What a row of the metric catalogue is, and the bucket boundaries that rows share.

A boundary stands at every threshold of dashboards/slos.toml: a classic histogram knows nothing between two of them.
"""

from __future__ import annotations

from typing import Final, Literal, NamedTuple

__all__ = ["ADDED", "DURATION", "FRAME", "GAP", "JITTER", "PER_TOKEN", "TOKENS", "TTFT", "Kind", "Metric"]

Kind = Literal["counter", "gauge", "histogram"]


class Metric(NamedTuple):
    """One row of the catalogue."""

    name: str  #: without `_total` for counters; the exposition adds it
    kind: Kind
    help: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()


#: OpenTelemetry's, for whole operations.
DURATION: Final = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
#: OpenTelemetry's list, with 0.2 and 0.3 for objectives and Envoy's tail for long prefills.
TTFT: Final = (
    *(0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.2, 0.25, 0.3, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0),
    *(15.0, 20.0, 30.0, 45.0, 60.0),
)
PER_TOKEN: Final = (0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5)
#: All of OpenTelemetry's for chunks, and finer ones from 1 ms on: its floor of 10 ms is too coarse to see jitter.
GAP: Final = (
    *(0.001, 0.002, 0.005, 0.01, 0.015, 0.02, 0.03, 0.04, 0.05, 0.08, 0.1, 0.16, 0.2, 0.32, 0.5, 0.64, 1.0, 1.28),
    *(2.56, 5.12, 10.24, 20.48, 40.96, 81.92),
)
JITTER: Final = (0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.03, 0.05, 0.075, 0.1, 0.25, 1.0)
#: What a gateway adds is small, or something is wrong.
ADDED: Final = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 1.0, 5.0)
#: OpenTelemetry's, powers of four.
TOKENS: Final = tuple(4.0**power for power in range(14))
FRAME: Final = (0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.128, 0.256, 0.512, 1.024, 4.096)
