"""Watching a process: resident memory, open files, gauges; and the verdict on whether anything grew."""

from __future__ import annotations

import os
import re
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Final

__all__ = ["Gauges", "Sample", "gauges", "growth_bound_bytes", "sample", "series"]

_PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")
_MIB: Final = 1 << 20
_SERIES: Final = re.compile(r"^(headrace_\w+)(?:\{(.*)\})? (\S+)$", re.MULTILINE)
_HELD: Final = (
    *("headrace_streams_open", "headrace_sockets_open", "headrace_attempts_inflight", "headrace_buffered_bytes"),
)
_TASKS: Final = "headrace_tasks"


@dataclass(frozen=True, slots=True)
class Sample:
    """One look at a process."""

    at_s: float
    rss_bytes: int
    files: int
    threads: int


@dataclass(frozen=True, slots=True)
class Gauges:
    """What the edge says it holds."""

    #: Open streams and sockets, permits, buffered bytes, by name; nothing of them is left of a quiet edge.
    held: dict[str, float]
    #: Live asyncio tasks; a quiet edge has a few that live as long as it does.
    tasks: int

    @property
    def zero(self) -> bool:
        """Nothing is held."""
        return not any(self.held.values())


def sample(pid: int, at_s: float) -> Sample:
    """Look at a process.

    Raises:
        OSError: it has ended.
    """
    proc = Path("/proc") / str(pid)
    pages = int((proc / "statm").read_text().split()[1])
    files = sum(1 for _ in (proc / "fd").iterdir())
    threads = sum(1 for _ in (proc / "task").iterdir())
    return Sample(at_s, pages * _PAGE_BYTES, files, threads)


def gauges(ops_url: str) -> Gauges:
    """Ask the edge what it holds.

    Raises:
        OSError: it does not answer.
    """
    rows = series(ops_url)
    held = {name: sum(value for found, _, value in rows if found == name) for name in _HELD}
    return Gauges(held, int(sum(value for found, _, value in rows if found == _TASKS)))


def series(ops_url: str) -> list[tuple[str, str, float]]:
    """Return what a service counts: name, labels as they are written, value.

    Raises:
        OSError: it does not answer.
    """
    with urllib.request.urlopen(f"{ops_url}/metrics", timeout=10) as page:  # noqa: S310  # Our own address.
        return [(name, labels, float(value)) for name, labels, value in _SERIES.findall(page.read().decode())]


def growth_bound_bytes(seconds: float) -> float:
    """Return how much the fitted line may rise over `seconds`: 1 MiB a minute, and 8 MiB in any case.

    Short runs see the allocator settle; a real leak under this load is tens of MiB a minute.
    """
    return max(8.0 * _MIB, seconds / 60 * _MIB)
