"""The figures by which gateways are compared, and their summary over runs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from loadtest.relay.runs import Figure, Run, Summary
from loadtest.relay.stats import Quantiles, differences, ratios, spread

REFERENCE: Final = "nginx"
BASELINE: Final = "direct"


@dataclass(frozen=True, slots=True)
class Metric:
    """One figure of a run; its unit is in its name.

    Args:
        name: as in the JSON summary.
        of: takes it from a run; None where the run has none.
    """

    name: str
    of: Callable[[Run], float | None]


def _quantile(field: Callable[[Run], Quantiles | None], which: str) -> Callable[[Run], float | None]:
    def of(run: Run) -> float | None:
        found = field(run)
        return None if found is None else float(getattr(found, which))

    return of


def _per_cpu_s(us_each: float | None) -> float | None:
    return 1e6 / us_each if us_each else None


def _streams_open(run: Run) -> float | None:
    """Streams that were open at the end of the window and ended as they should."""
    return float(run.outcomes.whole + run.outcomes.unfinished) if run.rss_bytes_per_stream is not None else None


METRICS: Final[tuple[Metric, ...]] = (
    Metric("cpu_us_per_token", lambda run: run.cpu_us_per_token),
    Metric("tree_cpu_us_per_token", lambda run: run.tree_cpu_us_per_token),
    Metric("tokens_per_s", lambda run: run.tokens / run.window_s if run.tokens else None),
    Metric("delivered_share", lambda run: run.delivered_share),
    Metric("transit_p50_us", _quantile(lambda run: run.transit_us, "p50")),
    Metric("transit_p99_us", _quantile(lambda run: run.transit_us, "p99")),
    Metric("transit_p999_us", _quantile(lambda run: run.transit_us, "p999")),
    Metric("gap_p99_ms", _quantile(lambda run: run.gap_ms, "p99")),
    Metric("gap_max_ms", _quantile(lambda run: run.gap_ms, "max")),
    Metric("ttft_p50_ms", _quantile(lambda run: run.ttft_ms, "p50")),
    Metric("ttft_p99_ms", _quantile(lambda run: run.ttft_ms, "p99")),
    Metric("late_p99_us", _quantile(lambda run: run.late_us, "p99")),
    Metric("requests_per_cpu_s", lambda run: _per_cpu_s(run.cpu_us_per_request)),
    Metric("tree_requests_per_cpu_s", lambda run: _per_cpu_s(run.tree_cpu_us_per_request)),
    Metric("requests_per_s", lambda run: run.requests / run.window_s if run.requests else None),
    Metric("rss_bytes_per_stream", lambda run: run.rss_bytes_per_stream),
    Metric("rss_growth_bytes", lambda run: run.rss_growth_bytes),
    Metric("streams_open", _streams_open),
    Metric("kernel_bytes_per_stream", lambda run: run.kernel_bytes_per_stream),
    Metric("gateway_busy_share", lambda run: run.gateway_busy_share),
    Metric("foreign_share", lambda run: run.foreign_share),
    Metric("load_busy_share", lambda run: run.load_busy_share),
)


def headline(run: Run) -> str:
    """Say in a few words what a run showed."""
    words: list[str] = []
    if run.rss_bytes_per_stream is not None:
        words.append(f"{run.rss_bytes_per_stream / 1024:.1f} KiB/stream")
    elif run.cpu_us_per_token is not None:
        words.append(f"{run.cpu_us_per_token:.1f} us/token")
    if run.cpu_us_per_request is not None:
        words.append(f"{1e6 / run.cpu_us_per_request:,.0f} req/CPU-s")
    if run.transit_us:
        words.append(f"transit {run.transit_us.p50:.0f}/{run.transit_us.p99:.0f} us")
    elif run.requests and run.ttft_ms:
        words.append(f"{run.ttft_ms.p50:.2f}/{run.ttft_ms.p99:.2f} ms")
    if run.delivered_share is not None and run.delivered_share < 0.97:
        words.append(f"{run.delivered_share:.0%} delivered")
    if run.outcomes.lost:
        words.append(f"{run.outcomes.lost} LOST")
    return ", ".join(words) or f"{run.tokens:,} tokens"


def _counted(runs: Iterable[Run]) -> tuple[list[Run], bool]:
    """Return the runs that count: the clean ones, or, failing those, the last attempt of each round."""
    measured = [run for run in runs if run.failed is None]
    clean = [run for run in measured if run.clean]
    if clean:
        return clean, False
    return list({run.round: run for run in measured}.values()), bool(measured)


def _by_round(runs: Iterable[Run], metric: Metric) -> dict[int, float]:
    found = {run.round: metric.of(run) for run in runs}
    return {number: value for number, value in found.items() if value is not None}


def summarise(runs: Sequence[Run]) -> list[Summary]:
    """Return one summary for each scenario and gateway, in the order of the runs."""
    cells: dict[tuple[str, str], list[Run]] = {}
    for run in runs:
        cells.setdefault((run.scenario, run.gateway), []).append(run)
    counted = {cell: _counted(own) for cell, own in cells.items()}
    summaries: list[Summary] = []
    for (scenario, gateway), own in cells.items():
        chosen, contended = counted[scenario, gateway]
        reference, _ = counted.get((scenario, REFERENCE), ([], False))
        baseline, _ = counted.get((scenario, BASELINE), ([], False))
        figures: dict[str, Figure] = {}
        for metric in METRICS:
            values = _by_round(chosen, metric)
            if (value := spread(list(values.values()))) is None:
                continue
            direct = _by_round(baseline, metric)
            figures[metric.name] = Figure(
                value=value,
                ratio_to_nginx=spread(ratios(values, _by_round(reference, metric))),
                ratio_to_direct=spread(ratios(values, direct)),
                minus_direct=spread(differences(values, direct)),
            )
        summaries.append(
            Summary(
                scenario=scenario,
                gateway=gateway,
                clean=sum(run.clean for run in own),
                void=sum(run.void is not None for run in own),
                failed=sum(run.failed is not None for run in own),
                lost=sum(run.outcomes.lost for run in chosen),
                contended=contended,
                figures=figures,
            )
        )
    return summaries
