"""What the kernel allows: open files, pending connections, socket buffers, ports, the clock."""

from __future__ import annotations

import contextlib
import ctypes
import resource
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from launch.doctor.finding import Finding, bad, good, unasked, warning

__all__ = ["Kernel", "backlog", "buffers", "clock", "files", "local_ports"]

#: A stream holds a socket to its client and one to its engine.
_FILES_A_STREAM: Final = 2
#: Listeners, the pool of idle connections, logs.
_FILES_OF_ITS_OWN: Final = 320
_FEW_FILES: Final = 4_096
_TOO_FEW_FILES: Final = 512
#: What `streamkit/ops/listener.py` asks for.
_BACKLOG: Final = 2_048
#: The kernel's own default on most machines; a keyframe fits several times.
_BUFFER_BYTES: Final = 212_992
#: adjtimex(2): the clock is not kept in step by anybody.
_TIME_ERROR: Final = 5


class Kernel:
    """Where the kernel's settings are read.

    Args:
        root: `/proc/sys`; tests have one of their own.
    """

    def __init__(self, root: Path = Path("/proc/sys")) -> None:
        self._root = root

    def numbers(self, name: str) -> tuple[int, ...] | None:
        """Return the numbers of a setting such as `net.core.somaxconn`; None = it cannot be read here."""
        with contextlib.suppress(OSError, ValueError):
            return tuple(map(int, (self._root / name.replace(".", "/")).read_text().split()))
        return None

    def text(self, name: str) -> str:
        """Return a setting as it stands; empty = it cannot be read here."""
        with contextlib.suppress(OSError):
            return (self._root / name.replace(".", "/")).read_text().strip()
        return ""


def files(limit: int | None = None) -> Finding:
    """Judge how many files one process may open.

    Args:
        limit: instead of this process's own.
    """
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0] if limit is None else limit
    if soft == resource.RLIM_INFINITY:
        return good("limits.files", "no limit on open files")
    streams = max(0, soft - _FILES_OF_ITS_OWN) // _FILES_A_STREAM
    seen = f"{soft:,} open files a process: about {streams:,} streams for each edge worker"
    do = "ulimit -n 65536 before the start; in a systemd unit LimitNOFILE=65536; in Compose ulimits: nofile"
    if soft < _TOO_FEW_FILES:
        return bad("limits.files", seen, do)
    return good("limits.files", seen) if soft >= _FEW_FILES else warning("limits.files", seen, do)


def backlog(kernel: Kernel) -> Finding:
    """Judge how many connections may wait to be accepted."""
    found = kernel.numbers("net.core.somaxconn")
    if found is None:
        return unasked("limits.somaxconn", "not Linux, or /proc/sys cannot be read")
    seen = f"net.core.somaxconn is {found[0]:,}; an edge asks for {_BACKLOG:,}"
    if found[0] >= _BACKLOG:
        return good("limits.somaxconn", seen)
    return warning(
        "limits.somaxconn",
        f"{seen}: a burst of new clients waits a second or more",
        f"sysctl -w net.core.somaxconn={_BACKLOG}, and the same line in /etc/sysctl.d/",
    )


def buffers(kernel: Kernel) -> Finding:
    """Judge the buffers that a UDP socket gets: WebRTC's are not asked for, so the default counts."""
    names = ("net.core.rmem_default", "net.core.wmem_default")
    found = {name: numbers[0] for name in names if (numbers := kernel.numbers(name))}
    if not found:
        return unasked("limits.udp_buffers", "net.core.rmem_default cannot be read here (a container has none)")
    seen = ", ".join(f"{name} {number:,} bytes" for name, number in found.items())
    small = [name for name, number in found.items() if number < _BUFFER_BYTES]
    if not small:
        return good("limits.udp_buffers", seen)
    return warning(
        "limits.udp_buffers",
        f"{seen}: a keyframe may not fit, and its packets are lost",
        "; ".join(f"sysctl -w {name}={_BUFFER_BYTES}" for name in small),
    )


def local_ports(kernel: Kernel, wanted: Iterable[tuple[str, int]]) -> Iterator[Finding]:
    """Judge fixed ports inside the range from which the kernel takes ports for outgoing connections.

    Args:
        kernel: read.
        wanted: key and port of what is to listen.
    """
    found = kernel.numbers("net.ipv4.ip_local_port_range")
    if found is None or len(found) != 2:
        return
    low, high = found
    kept = _ranges(kernel.text("net.ipv4.ip_local_reserved_ports"))
    inside = [
        (key, port)
        for key, port in wanted
        if low <= port <= high and not any(first <= port <= last for first, last in kept)
    ]
    if inside:
        named = ", ".join(f"{key} {port}" for key, port in inside)
        ports = ",".join(str(port) for _, port in inside)
        yield warning(
            "limits.local_ports",
            f"{named}: inside {low}-{high}, where the kernel takes ports for outgoing connections; now and then one"
            " of those is there first",
            f"sysctl -w net.ipv4.ip_local_reserved_ports={ports}",
        )


def _ranges(text: str) -> list[tuple[int, int]]:
    found = []
    for part in filter(None, text.split(",")):
        first, _, last = part.partition("-")
        found.append((int(first), int(last or first)))
    return found


def clock() -> Finding:
    """Judge whether somebody keeps this machine's clock: client tokens and certificates are judged by it."""
    if not sys.platform.startswith("linux"):
        return unasked("clock", "asked of the kernel on Linux only")
    state = ctypes.CDLL(None, use_errno=True).adjtimex(ctypes.create_string_buffer(256))
    if state == _TIME_ERROR:
        return warning(
            "clock",
            "the kernel says that nobody keeps the clock in step (client tokens tolerate 30 s between machines)",
            "run chrony or systemd-timesyncd, in a container on its host: timedatectl set-ntp true",
        )
    if state < 0:
        return unasked("clock", "the kernel does not say whether the clock is kept in step")
    return good("clock", "kept in step")
