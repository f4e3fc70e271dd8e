"""The machine: its facts, its cores, its limit of open files."""

from __future__ import annotations

import os
import platform
import resource
from pathlib import Path

from loadtest.relay.runs import Machine


class UnfitError(Exception):
    """The benchmark cannot be run on this machine, or not with these arguments."""


def facts() -> Machine:
    """Return what identifies the machine in a report."""
    model = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.machine(),
    )
    return Machine(
        cpu=model,
        cpus=os.cpu_count() or 0,
        kernel=platform.release(),
        python=platform.python_version(),
        memory_bytes=os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"),
    )


def choose_cpus(asked: str | None) -> tuple[int, int]:
    """Return the load side's core and the gateway's.

    Args:
        asked: `LOAD,GATEWAY`, or None for the first two that this process may use.

    Raises:
        UnfitError: there are not two, or not these.
    """
    allowed = sorted(os.sched_getaffinity(0))
    if asked is None:
        if len(allowed) < 2:
            raise UnfitError("two cores are needed: one for the gateway alone, one for the load side")
        return allowed[0], allowed[1]
    parts = asked.split(",")
    if len(parts) != 2 or not all(part.strip().isdigit() for part in parts):
        raise UnfitError(f"--cpus takes LOAD,GATEWAY, such as 0,1; not {asked!r}")
    load, gateway = int(parts[0]), int(parts[1])
    if load == gateway or not {load, gateway} <= set(allowed):
        raise UnfitError(f"--cpus needs two different cores of {allowed}; not {asked!r}")
    return load, gateway


def raise_file_limit(needed: int) -> None:
    """Raise the soft limit of open files to the hard one.

    Raises:
        UnfitError: even that is fewer than `needed`.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if hard != resource.RLIM_INFINITY and hard < needed:
        raise UnfitError(
            f"a process may open {hard:,} files here, and these scenarios need {needed:,}: raise the hard limit "
            "(ulimit -Hn, LimitNOFILE=) or leave the scenario out"
        )
