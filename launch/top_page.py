"""The page that `headrace top` shows: 80 columns or more, and every colour only repeats a word."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from launch.figures import Figures, Process
from launch.screen import Screen

__all__ = ["page"]

_WIDTH: Final = 80
_MARGIN: Final = 2
_MIB: Final = 1024 * 1024
_BAR: Final = 20
#: There were no events to measure.
_UNMEASURED: Final = "no data"
#: Nobody says.
_UNSAID: Final = "-"
#: A name is cut to so much before a column is left out.
_NAME: Final = 8

Rows = Sequence[Sequence[str]]


def page(found: Figures, screen: Screen, width: int = _WIDTH, keys: str = "") -> list[str]:
    """Return the lines of the page.

    Args:
        found: what to show.
        screen: paints.
        width: columns; what 80 have no room for is shown where there are more.
        keys: what may be pressed.
    """
    width = max(_WIDTH, width)
    over = f"the last {found.window_s:.0f} s" if found.window_s else "all since each process's start"
    lines = [f"{screen.bold('headrace top')}  {screen.dim(f'{over}; {keys}' if keys else over)}", ""]
    lines += [screen.red(f"  {url} does not answer") for url in found.away]
    lines += [""] if found.away else []
    lines += _table(screen, width, *_edges(found), "no edge answers", spare=1)
    lines += _table(screen, width, *_backends(found), "no backend is known")
    lines += _gpus(found, screen)
    lines += _faces(found)
    lines += _table(screen, width, *_processes(found.processes), "no process answers")
    return lines[:-1]


def _edges(found: Figures) -> tuple[Sequence[str], Rows]:
    heads = ("EDGE", "STATE", "STREAMS", "TTFT p50", "p95", "GAP p99", "QUEUE", "REQ", "BAD", "EVENTS", "ADDED p50")
    return heads, [
        (
            _short(one.url),
            one.state,
            f"{one.streams} ({one.paused} slow)" if one.paused else str(one.streams),
            _time(one.ttft_p50_s),
            _time(one.ttft_p95_s),
            _time(one.gap_p99_s),
            str(one.waiting),
            _count(one.requests + one.refused),
            _count(one.failed + one.refused),
            _count(one.events),
            _time(one.added_p50_s),
        )
        for one in found.edges
    ]


def _backends(found: Figures) -> tuple[Sequence[str], Rows]:
    heads = ("BACKEND", "STATE", "PRESSURE", "OPEN", "QUEUE", "FIRST p95", "GAP p99", "TRIES", "BAD")
    return heads, [
        (
            one.name,
            "breaker" if one.breaker_open else one.state or _UNSAID,
            one.pressure or _UNSAID,
            str(one.inflight),
            _UNSAID if one.waiting is None else str(one.waiting),
            _time(one.first_chunk_p95_s),
            _time(one.gap_p99_s),
            _count(one.attempts),
            _count(one.failed),
        )
        for one in found.backends
    ]


def _processes(found: Sequence[Process]) -> tuple[Sequence[str], Rows]:
    heads = ("PROCESS", "STATE", "CORES", "MiB")
    wide = max((len(one.kind) for one in found), default=0)
    return heads, [
        (
            f"{one.kind:{wide}}  {_short(one.url)}",
            one.state,
            _UNSAID if one.cpu_cores is None else f"{one.cpu_cores:.2f}",
            f"{one.rss_bytes / _MIB:,.0f}",
        )
        for one in found
    ]


def _gpus(found: Figures, screen: Screen) -> Iterator[str]:
    if not found.gpus:
        yield f"  GPU memory: {_UNMEASURED}, no arbiter with a GPU answers"
        yield ""
        return
    hosts = {gpu.host for gpu in found.gpus}
    for gpu in found.gpus:
        parts = (gpu.used_bytes, max(0.0, gpu.reserved_bytes - gpu.used_bytes))
        used, promised = (round(_BAR * part / max(1.0, gpu.total_bytes)) for part in parts)
        bar = ("█" * min(_BAR, used) + "▒" * promised)[:_BAR]
        words = (
            f"{gpu.used_bytes / _MIB:,.0f} used, {gpu.reserved_bytes / _MIB:,.0f} leased"
            f" of {gpu.total_bytes / _MIB:,.0f} MiB"
        )
        yield f"  {screen.bold(f'GPU {gpu.gpu}')}  {bar:░<{_BAR}}  {words}"
        if len(hosts) > 1:
            yield f"         at {_short(gpu.host)}"
        if gpu.unleased_bytes:
            yield screen.red(f"         {gpu.unleased_bytes / _MIB:,.0f} MiB are used without a lease")
    held = ", ".join(f"{count:.0f} {state}" for state, count in found.leases.items() if count)
    yield f"  leases: {held or 'none'}; {found.leases_waiting} waiting in line"
    yield ""


def _faces(found: Figures) -> Iterator[str]:
    if (faces := found.faces) is not None:
        yield (
            f"  avatars: {faces.sessions} open, {faces.viewers} viewers;"
            f" mouths: {faces.mouths_waiting} waiting, p95 {_time(faces.mouth_p95_s)}"
        )
        yield ""


def _table(
    screen: Screen, width: int, heads: Sequence[str], rows: Rows, nothing: str, spare: int = 0
) -> Iterator[str]:
    """Yield a table that fits: without `spare` columns, then closer, then with shorter names, then with less."""
    shown, wide, gap = len(heads), [max(map(len, column)) for column in zip(heads, *rows, strict=True)], 2

    def over() -> int:
        return _MARGIN + sum(wide[:shown]) + gap * (shown - 1) - width

    if over() > 0:
        shown -= spare
    if over() > 0:
        gap = 1
    while over() > 0 and wide[0] - over() < _NAME and shown > 1:
        shown -= 1
    wide[0] -= max(0, over())
    yield " " * _MARGIN + screen.dim(_joined(heads, wide[:shown], gap))
    for row in rows:
        yield " " * _MARGIN + _joined(row, wide[:shown], gap)
    if not rows:
        yield f"  {nothing}"
    yield ""


def _joined(cells: Sequence[str], wide: Sequence[int], gap: int) -> str:
    first, *rest = cells[: len(wide)]
    cut = [f"{_cut(first, wide[0]):{wide[0]}}"]
    cut += [f"{cell:>{width}}" for cell, width in zip(rest, wide[1:], strict=True)]
    return (" " * gap).join(cut).rstrip()


def _cut(name: str, width: int) -> str:
    """Return a name without its middle: addresses differ at their ends."""
    if len(name) <= width:
        return name
    end = (width - 1) // 2
    return name[: width - 1 - end] + "…" + name[len(name) - end :]


def _short(url: str) -> str:
    return url.removeprefix("http://").removeprefix("127.0.0.1")


def _time(seconds: float | None) -> str:
    if seconds is None:
        return _UNMEASURED
    return f"{seconds * 1000:.3g} ms" if seconds < 0.9995 else f"{seconds:.3g} s"


def _count(value: float) -> str:
    if value < 10_000:
        return f"{value:.0f}"
    return f"{value / 1000:.0f}k" if value < 10_000_000 else f"{value / 1_000_000:.0f}M"
