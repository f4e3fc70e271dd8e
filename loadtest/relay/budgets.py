"""The figures that Headrace holds itself to (docs: the relay's budgets), judged from a summary."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import msgspec

from loadtest.relay.metrics import BASELINE, REFERENCE
from loadtest.relay.runs import Figure, Summary, Verdict
from loadtest.relay.scenarios import IDLE, PACED, TTFT
from loadtest.relay.stats import Spread

OURS: Final = "headrace"
OURS_WS: Final = "headrace-ws"
LOST: Final = "idle streams lost"
#: CPU per token against nginx: what must be reached first, and the goal.
FIRST_RATIO: Final = 1 / 0.7
GOAL_RATIO: Final = 1.0
#: A token over WebSocket against one over SSE.
SOCKET_RATIO: Final = 1.25
#: Against every gateway that is a Python or node program.
INTERPRETED_RATIO: Final = 0.5
TRANSIT_P99_RATIO: Final = 2.0
TRANSIT_P999_ADDED_US: Final = 20_000.0
TTFT_P50_ADDED_MS: Final = 1.0
TTFT_P99_ADDED_MS: Final = 5.0
IDLE_BYTES: Final = 24 * 1024
#: "Flat": held streams may add this share of what opening them took.
FLAT_SHARE: Final = 0.05

_Cells = dict[tuple[str, str], Summary]


@dataclass(frozen=True, slots=True)
class _Unit:
    name: str
    form: str
    scale: float = 1.0

    def shown(self, found: Spread) -> str:
        low, middle, high = (format(value * self.scale, self.form) for value in (found.low, found.median, found.high))
        return f"{middle} [{low} to {high}] {self.name}" if found.runs > 1 else f"{middle} {self.name}"


_TIMES: Final = _Unit("x", ".2f")
_ADDED_MS: Final = _Unit("ms", "+.2f")
_ADDED_US: Final = _Unit("ms", "+.2f", 1 / 1000)
_KIB: Final = _Unit("KiB", ".1f", 1 / 1024)
_MIB: Final = _Unit("MiB", "+.2f", 1 / 2**20)


def judge(summaries: Sequence[Summary], interpreted: Iterable[str], *, quick: bool = False) -> list[Verdict]:
    """Judge every budget that the measured scenarios speak of.

    Args:
        summaries: of all gateways.
        interpreted: names of the gateways that are Python or node programs.
        quick: the scenarios were small ones, which no budget speaks of: only lost streams are judged.
    """
    cells: _Cells = {(summary.scenario, summary.gateway): summary for summary in summaries}
    names = set(interpreted)
    verdicts = [*_cpu(cells, names), *_transit(cells)]
    for scenario in TTFT:
        verdicts += _ttft(cells, scenario)
    verdicts += _idle(cells)
    if quick:
        return [
            verdict if verdict.figure == LOST else msgspec.structs.replace(verdict, met=None) for verdict in verdicts
        ]
    return verdicts


def _figure(cells: _Cells, scenario: str, metric: str) -> Figure | None:
    ours = cells.get((scenario, OURS))
    return ours.figures.get(metric) if ours else None


def _verdict(
    cells: _Cells,
    scenario: str,
    title: tuple[str, str],
    found: Spread | None,
    limit: float,
    unit: _Unit,
    against: str | None = None,
) -> list[Verdict]:
    """Compare a median with its limit; a contended run on either side leaves the question open."""
    if (scenario, OURS) not in cells:
        return []
    figure, budget = title
    if found is None:
        here = not against or (scenario, against) in cells
        missing = "not measured" if here else f"needs {against}"
        return [Verdict(figure=figure, budget=budget, measured=missing, met=None)]
    contended = any(cells[scenario, name].contended for name in (OURS, against) if name and (scenario, name) in cells)
    text = unit.shown(found)
    if contended:
        return [Verdict(figure=figure, budget=budget, measured=text + " (contended)", met=None)]
    return [Verdict(figure=figure, budget=budget, measured=text, met=found.median <= limit)]


def _cpu(cells: _Cells, interpreted: set[str]) -> list[Verdict]:
    figure = _figure(cells, PACED, "cpu_us_per_token")
    ratio = figure.ratio_to_nginx if figure else None
    verdicts = [
        *_verdict(
            cells, PACED, ("CPU per token, staggered: first", "<= nginx / 0.7"), ratio, FIRST_RATIO, _TIMES, REFERENCE
        ),
        *_verdict(cells, PACED, ("CPU per token, staggered: goal", "<= nginx"), ratio, GOAL_RATIO, _TIMES, REFERENCE),
    ]
    verdicts += _socket(cells)
    for (scenario, name), peer in cells.items():
        theirs = peer.figures.get("cpu_us_per_token")
        if scenario != PACED or name not in interpreted or not figure or not theirs:
            continue
        low, high = figure.value.low / theirs.value.high, figure.value.high / theirs.value.low
        found = Spread(figure.value.median / theirs.value.median, low, high, figure.value.runs)
        verdicts += _verdict(
            cells, PACED, ("CPU per token, staggered", f"<= {name} / 2"), found, INTERPRETED_RATIO, _TIMES, name
        )
    return verdicts


def _socket(cells: _Cells) -> list[Verdict]:
    """Compare WebSocket with SSE of the same rounds."""
    if (PACED, OURS_WS) not in cells:
        return []
    found = None
    socket = cells[PACED, OURS_WS].figures.get("cpu_us_per_token")
    sse = _figure(cells, PACED, "cpu_us_per_token")
    if socket and sse:
        low, high = socket.value.low / sse.value.high, socket.value.high / sse.value.low
        found = Spread(socket.value.median / sse.value.median, low, high, socket.value.runs)
    title = ("CPU per token over WebSocket", "<= 1.25 x SSE")
    return _verdict(cells, PACED, title, found, SOCKET_RATIO, _TIMES, OURS_WS)


def _transit(cells: _Cells) -> list[Verdict]:
    p99 = _figure(cells, PACED, "transit_p99_us")
    p999 = _figure(cells, PACED, "transit_p999_us")
    return [
        *_verdict(
            cells, PACED, ("transit per token, p99", "<= 2 x nginx"), p99.ratio_to_nginx if p99 else None,
            TRANSIT_P99_RATIO, _TIMES, REFERENCE,
        ),
        *_verdict(
            cells, PACED, ("transit per token, p99.9", "<= direct + 20 ms"), p999.minus_direct if p999 else None,
            TRANSIT_P999_ADDED_US, _ADDED_US, BASELINE,
        ),
    ]  # fmt: skip


def _ttft(cells: _Cells, scenario: str) -> list[Verdict]:
    verdicts: list[Verdict] = []
    for which, limit in (("p50", TTFT_P50_ADDED_MS), ("p99", TTFT_P99_ADDED_MS)):
        figure = _figure(cells, scenario, f"ttft_{which}_ms")
        verdicts += _verdict(
            cells, scenario, (f"added TTFT, {scenario}, {which}", f"<= direct + {limit:.0f} ms"),
            figure.minus_direct if figure else None, limit, _ADDED_MS, BASELINE,
        )  # fmt: skip
    return verdicts


def _idle(cells: _Cells) -> list[Verdict]:
    ours = cells.get((IDLE, OURS))
    if ours is None:
        return []
    each = _figure(cells, IDLE, "rss_bytes_per_stream")
    grown = _figure(cells, IDLE, "rss_growth_bytes")
    verdicts = _verdict(
        cells, IDLE, ("RSS per open idle stream", "<= 24 KiB"), each.value if each else None, IDLE_BYTES,
        _KIB,
    )  # fmt: skip
    if each and grown:
        opened = each.value.median * _streams(ours)
        verdicts += _verdict(
            cells, IDLE, ("RSS while they are held", "flat: <= 5 % more"), grown.value, FLAT_SHARE * opened,
            _MIB,
        )  # fmt: skip
    if not ours.figures:
        return verdicts
    lost = Verdict(
        figure=LOST,
        budget="none",
        measured=f"{ours.lost:,}",
        # Streams are counted whether or not the machine was quiet.
        met=ours.lost == 0,
    )
    return [*verdicts, lost]


def _streams(summary: Summary) -> float:
    opened = summary.figures.get("streams_open")
    return opened.value.median if opened else 0.0
