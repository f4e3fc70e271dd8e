"""What the kernel says about processes, cores and sockets (proc(5), clock_getcpuclockid(3))."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

PROC: Final = Path("/proc")
PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")
TICK_NS: Final = 1_000_000_000 // os.sysconf("SC_CLK_TCK")
#: The low bits of a process's CPU clock id that select time on a CPU as the scheduler counts it, in ns.
_CPUCLOCK_SCHED: Final = 2


def process_cpu_ns(pid: int) -> int | None:
    """Return the CPU time of a process and of all its threads, ended ones included, in ns.

    None when there is no such process.
    """
    try:
        return time.clock_gettime_ns((~pid << 3) | _CPUCLOCK_SCHED)
    except OSError:
        return None


def parse_stat(text: str) -> tuple[int, int]:
    """Return (parent pid, start time in ticks since boot) from the text of `/proc/PID/stat`."""
    # The command's name stands in brackets and may hold spaces and brackets itself.
    fields = text[text.rindex(")") + 2 :].split()
    return int(fields[1]), int(fields[19])


def _stat(pid: int) -> tuple[int, int] | None:
    try:
        return parse_stat((PROC / str(pid) / "stat").read_text())
    except (OSError, ValueError):
        return None  # It has just ended.


def start_ticks(pid: int) -> int | None:
    """Return when a process started, in ticks since boot: with the pid it names the process for good."""
    stat = _stat(pid)
    return stat[1] if stat else None


def tree(roots: Iterable[int]) -> frozenset[int]:
    """Return the pids of `roots` that live, and of all their descendants."""
    parents: dict[int, int] = {}
    for folder in PROC.iterdir():
        if folder.name.isdigit() and (stat := _stat(int(folder.name))):
            parents[int(folder.name)] = stat[0]
    found = {pid for pid in roots if pid in parents}
    grown = True
    while grown:
        more = {pid for pid, parent in parents.items() if parent in found} - found
        found |= more
        grown = bool(more)
    return frozenset(found)


def cpu_ns(pids: Iterable[int]) -> dict[int, int]:
    """Return the CPU time of each of `pids` that lives, in ns."""
    times = {pid: process_cpu_ns(pid) for pid in pids}
    return {pid: spent for pid, spent in times.items() if spent is not None}


def spent_ns(before: dict[int, int], after: dict[int, int]) -> int:
    """Return the CPU time spent between two `cpu_ns` readings, in ns; a new process counts whole."""
    return sum(max(0, spent - before.get(pid, 0)) for pid, spent in after.items())


def rss_bytes(pids: Iterable[int]) -> int:
    """Return the resident memory of `pids` together, in bytes; pages that they share count for each."""
    total = 0
    for pid in pids:
        try:
            total += int((PROC / str(pid) / "statm").read_text().split()[1]) * PAGE_BYTES
        except (OSError, IndexError):
            continue
    return total


@dataclass(frozen=True, slots=True)
class CoreTime:
    """One core's time since boot, in ns: `total` of all states, `idle` with waiting for I/O."""

    total: int
    idle: int


def parse_core(text: str, cpu: int) -> CoreTime:
    """Read one core's line from the text of `/proc/stat`.

    Raises:
        LookupError: there is no such core.
    """
    for line in text.splitlines():
        name, _, rest = line.partition(" ")
        if name == f"cpu{cpu}":
            # user nice system idle iowait irq softirq steal; guest time is already in user.
            ticks = [int(field) for field in rest.split()[:8]]
            return CoreTime(sum(ticks) * TICK_NS, (ticks[3] + ticks[4]) * TICK_NS)
    raise LookupError(f"/proc/stat has no cpu{cpu}")


def core_time(cpu: int) -> CoreTime:
    """Return where a core's time went since boot."""
    return parse_core((PROC / "stat").read_text(), cpu)


def busy_share(before: CoreTime, after: CoreTime) -> float:
    """Return the share of a core's time between two readings in which it was not idle, 0 to 1."""
    total = after.total - before.total
    return 0.0 if total <= 0 else min(1.0, max(0.0, 1 - (after.idle - before.idle) / total))


def parse_tcp_bytes(text: str) -> int:
    """Return the memory of all TCP sockets, in bytes, from the text of `/proc/net/sockstat`."""
    for line in text.splitlines():
        if line.startswith("TCP:"):
            words = line.split()
            return int(words[words.index("mem") + 1]) * PAGE_BYTES
    return 0


def parse_slab_bytes(text: str) -> int:
    """Return the kernel's slab memory that it cannot reclaim, in bytes, from the text of `/proc/meminfo`."""
    for line in text.splitlines():
        if line.startswith("SUnreclaim:"):
            return int(line.split()[1]) * 1024
    return 0


def kernel_bytes() -> int:
    """Return what the kernel holds for sockets and, unavoidably, for everything else of their kind, in bytes.

    Buffers of all TCP sockets, and the slab with the sockets themselves, their files and their epoll entries.
    """
    buffers = parse_tcp_bytes((PROC / "net" / "sockstat").read_text())
    return buffers + parse_slab_bytes((PROC / "meminfo").read_text())
