"""Runs a program on given CPUs and has it ended when the benchmark dies, even of SIGKILL.

Executed as a file (`python -S -E leash.py PARENT_PID CPUS PROGRAM ARGUMENTS...`), so it imports the standard
library only. It becomes the program; nothing of it stays in memory.
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import sys
from pathlib import Path

PR_SET_PDEATHSIG = 1  # prctl(2)


def leashed(command: list[str], cpus: set[int]) -> list[str]:
    """Return the command line that runs `command` on `cpus`, tied to the life of this process."""
    where = ",".join(map(str, sorted(cpus)))
    return [sys.executable, "-S", "-E", str(Path(__file__)), str(os.getpid()), where, *command]


def _become(parent_pid: int, cpus: set[int], command: list[str]) -> None:
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent_pid:  # It died before the leash was on.
        sys.exit(1)
    os.sched_setaffinity(0, cpus)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    try:
        os.execvp(command[0], command)  # noqa: S606  # No shell is wanted.
    except OSError as error:
        sys.exit(f"cannot run {command[0]}: {error.strerror}")


if __name__ == "__main__":
    _become(int(sys.argv[1]), {int(cpu) for cpu in sys.argv[2].split(",")}, sys.argv[3:])
