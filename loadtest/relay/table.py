"""The report as a person reads it, in a terminal of 100 columns."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from loadtest.relay.runs import Figure, Report, Summary, Verdict
from loadtest.relay.scenarios import SCENARIOS, RequestScenario, Scenario

WIDTH: Final = 100
_NONE: Final = "-"

Cell = Callable[[Summary], str]


@dataclass(frozen=True, slots=True)
class Column:
    """One column: its heading and what stands in it."""

    heading: str
    cell: Cell


def _value(metric: str, digits: int = 0, scale: float = 1.0) -> Cell:
    def cell(summary: Summary) -> str:
        figure = summary.figures.get(metric)
        if not figure:
            return _NONE
        value = figure.value.median * scale
        return f"{value:,.{0 if abs(value) >= 100 else digits}f}"

    return cell


def _ranged(metric: str, digits: int = 1, scale: float = 1.0) -> Cell:
    def cell(summary: Summary) -> str:
        figure = summary.figures.get(metric)
        if not figure:
            return _NONE
        low, middle, high = (value * scale for value in (figure.value.low, figure.value.median, figure.value.high))
        shown = 0 if middle >= 100 else digits
        text = f"{middle:,.{shown}f}"
        return text + f" [{low:,.{shown}f}-{high:,.{shown}f}]" if figure.value.runs > 1 else text

    return cell


def _micros(metric: str) -> Cell:
    """Show microseconds, and whole milliseconds or seconds where those would be too wide to read."""

    def cell(summary: Summary) -> str:
        figure = summary.figures.get(metric)
        if not figure:
            return _NONE
        value = figure.value.median
        if value < 10_000:
            return f"{value:,.0f}"
        return f"{value / 1000:.0f}ms" if value < 1_000_000 else f"{value / 1e6:.1f}s"

    return cell


def _to_nginx(metric: str) -> Cell:
    def cell(summary: Summary) -> str:
        figure = summary.figures.get(metric)
        return f"{figure.ratio_to_nginx.median:.2f}" if figure and figure.ratio_to_nginx else _NONE

    return cell


def _added(metric: str, digits: int, scale: float = 1.0) -> Cell:
    def cell(summary: Summary) -> str:
        figure: Figure | None = summary.figures.get(metric)
        if not figure or not figure.minus_direct or summary.gateway == "direct":
            return _NONE
        return f"{figure.minus_direct.median * scale:+.{digits}f}"

    return cell


def _joined(separator: str, *cells: Cell) -> Cell:
    def cell(summary: Summary) -> str:
        texts = [part(summary) for part in cells]
        return _NONE if set(texts) == {_NONE} else separator.join(texts)

    return cell


def _percent(metric: str) -> Cell:
    value = _value(metric, 0, 100)

    def cell(summary: Summary) -> str:
        text = value(summary)
        return text if text == _NONE else text + "%"

    return cell


def _lost(summary: Summary) -> str:
    return f"{summary.lost:,}"


def _runs(summary: Summary) -> str:
    text = f"{summary.clean}/{summary.clean + summary.void + summary.failed}"
    return text + ("!" if summary.contended else "")


_GATEWAY: Final = Column("gateway", lambda summary: summary.gateway)
_LOST: Final = Column("lost", _lost)
_RUNS: Final = Column("clean", _runs)

_PACED: Final = (
    _GATEWAY,
    Column("CPU us/token", _ranged("cpu_us_per_token")),
    Column("x nginx", _to_nginx("cpu_us_per_token")),
    Column("tree", _value("tree_cpu_us_per_token", 1)),
    Column(
        "transit 50/99/99.9 us",
        _joined("/", _micros("transit_p50_us"), _micros("transit_p99_us"), _micros("transit_p999_us")),
    ),
    Column("p99/nginx", _to_nginx("transit_p99_us")),
    Column("got", _percent("delivered_share")),
    _LOST,
    _RUNS,
)
_TTFT: Final = (
    _GATEWAY,
    Column("TTFT p50 ms", _ranged("ttft_p50_ms", 2)),
    Column("p99 ms", _ranged("ttft_p99_ms", 2)),
    Column("added p50", _added("ttft_p50_ms", 2)),
    Column("added p99", _added("ttft_p99_ms", 2)),
    _LOST,
    _RUNS,
)
_WHOLE: Final = (
    _GATEWAY,
    Column("answers per CPU-s", _ranged("requests_per_cpu_s", 0)),
    Column("x nginx", _to_nginx("requests_per_cpu_s")),
    Column("p50/p99 ms", _joined("/", _value("ttft_p50_ms", 2), _value("ttft_p99_ms", 2))),
    Column("answers/s", _value("requests_per_s")),
    _LOST,
    _RUNS,
)
_MEMORY: Final = (
    _GATEWAY,
    Column("RSS KiB/stream", _ranged("rss_bytes_per_stream", 1, 1 / 1024)),
    Column("while held MiB", _value("rss_growth_bytes", 2, 1 / 2**20)),
    Column("kernel KiB/stream", _value("kernel_bytes_per_stream", 1, 1 / 1024)),
    Column("open", _value("streams_open")),
    _LOST,
    _RUNS,
)
_SATURATED: Final = (
    _GATEWAY,
    Column("1,000 tokens/s", _ranged("tokens_per_s", 1, 1 / 1000)),
    Column("CPU us/token", _value("cpu_us_per_token", 2)),
    Column("gateway busy", _percent("gateway_busy_share")),
    Column("load side busy", _percent("load_busy_share")),
    _LOST,
    _RUNS,
)


def columns_for(scenario: Scenario) -> Sequence[Column]:
    """Return the columns that a scenario's table has."""
    if isinstance(scenario, RequestScenario):
        return _TTFT if scenario.stream else _WHOLE
    if scenario.memory:
        return _MEMORY
    return _SATURATED if scenario.saturating else _PACED


def _grid(rows: Sequence[Sequence[str]]) -> list[str]:
    """Align columns: the first to the left, the others to the right."""
    widths = [max(len(row[index]) for row in rows) for index in range(len(rows[0]))]
    return [
        "  ".join(
            text.ljust(width) if index == 0 else text.rjust(width)
            for index, (text, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def _scenario_table(scenario: Scenario, summaries: Sequence[Summary]) -> list[str]:
    columns = columns_for(scenario)
    rows = [[column.heading for column in columns]]
    rows += [[column.cell(summary) for column in columns] for summary in summaries]
    heading, *body = _grid(rows)
    return ["", scenario.title, heading, "-" * min(WIDTH, len(heading)), *body]


def _verdict_table(verdicts: Sequence[Verdict]) -> list[str]:
    words = {True: "met", False: "MISSED", None: "open"}
    rows = [["budget", "limit", "measured", ""]]
    rows += [[verdict.figure, verdict.budget, verdict.measured, words[verdict.met]] for verdict in verdicts]
    heading, *body = _grid(rows)
    return ["", heading, "-" * min(WIDTH, len(heading)), *body]


def render(report: Report) -> str:
    """Return the whole report as text."""
    machine, settings, rule = report.machine, report.settings, report.rule
    lines = [f"{machine.cpu}, {machine.cpus} cores, Linux {machine.kernel}, Python {machine.python}"]
    runs = "1 run" if settings.rounds == 1 else f"{settings.rounds} runs"
    how = (
        f"gateway on core {settings.gateway_cpu}, load side on core {settings.load_cpu}; "
        f"medians [smallest-largest] of {runs} of {settings.seconds:g} s"
    )
    lines += textwrap.wrap(how, WIDTH)
    versions = [f"{info.name} {info.version}".strip() for info in report.gateways if not info.missing]
    lines += textwrap.wrap("gateways: " + "; ".join(versions), WIDTH)
    for info in report.gateways:
        if info.missing:
            lines.append(f"left out: {info.name} ({info.missing})")
    for scenario in SCENARIOS:
        if own := [summary for summary in report.summary if summary.scenario == scenario.name]:
            lines += _scenario_table(scenario.quick() if settings.quick else scenario, own)
    if report.verdicts:
        lines += _verdict_table(report.verdicts)
    legend = (
        "clean: runs that count / all runs. "
        f"Void: others used more than {rule.foreign_max_share:.0%} of the gateway's core, "
        f"or the load side's core was {rule.load_busy_max_share:.0%} busy or more; "
        f"repeated up to {rule.repeats} times. "
        "A ! marks figures of void runs, because none was clean: they show that it works, and nothing more. "
        "transit: send to receipt of each token, quantiles. tree: with the processes that are not on the token path."
    )
    return "\n".join([*lines, "", *textwrap.wrap(legend, WIDTH)])
