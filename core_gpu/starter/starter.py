"""One engine's life: reserve, raise the barrier, launch, wait until it is healthy, lower the barrier, renew, release.

The engine runs in a session of its own, so that a signal reaches it once, through us. When we are killed it goes on
and nobody renews: the arbiter takes the lease back only when the engine's processes hold no memory any more.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Final

from core_gpu.starter.desk import TTL_S, Desk, RefusedError, Reservation
from core_gpu.starter.health import Health

__all__ = ["Engine", "Starter", "descendants"]

_EXIT_DEADLINE: Final = 1
_PROBE_S: Final = 0.25
_PROGRESS_S: Final = 10.0
_GRACE_S: Final = 15.0
#: What a renewal may name.
_MOST_PIDS: Final = 64


class _StoppedError(Exception):
    """A signal came before there was an engine to hand it to."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Engine:
    """What to start."""

    name: str
    model: str
    command: Sequence[str]
    health: Health
    mb: int
    gpu: str = ""
    priority: int = 0
    environment: Mapping[str, str] = field(default_factory=dict)
    #: For memory, and then for the barrier.
    wait_ms: int = 60_000
    #: From launch to healthy.
    deadline_ms: int = 600_000


class Starter:
    """Runs one engine.

    Args:
        desk: the arbiter.
        engine: what to run.
        say: told each step, in one line.
    """

    def __init__(self, desk: Desk, engine: Engine, say: Callable[[str], None]) -> None:
        self._desk, self._engine, self._say = desk, engine, say
        self._child: subprocess.Popen[bytes] | None = None
        self._stopping = 0
        self._launching = False
        self._renew_at = 0.0
        self._unheard = False

    def run(self) -> int:
        """Run the engine to its end and return its exit status (128 + n after signal n); 1 = never healthy.

        Raises:
            RefusedError: no memory, or no barrier, in time.
            ArbiterAwayError: nobody answers.
        """
        with self._signals():
            try:
                return self._leased()
            except _StoppedError:
                return 128 + self._stopping

    def _leased(self) -> int:
        engine, desk = self._engine, self._desk
        lease = desk.acquire(engine.model, engine.mb, engine.priority, engine.gpu, engine.wait_ms)
        try:
            self._say(f"{lease.mb} MiB of GPU {lease.gpu_index} are reserved")
            return self._started(lease)
        finally:
            desk.release(lease)

    def _started(self, lease: Reservation) -> int:
        barrier = self._desk.begin(lease, self._engine.deadline_ms, self._engine.wait_ms)
        healthy = False
        try:
            self._say(f"the barrier is up; starting {self._engine.command[0]}")
            self._launching = True
            child = self._child = subprocess.Popen(  # noqa: S603  the user's own command
                list(self._engine.command),
                env={**os.environ, **self._engine.environment},
                start_new_session=True,
            )
            if self._stopping:
                self._send(child, self._stopping)
            healthy = self._until_healthy(child, lease)
        finally:
            self._desk.end(barrier, healthy=healthy)
        if not healthy and child.poll() is None:
            late = not self._stopping
            self._end(child)
            if late:
                self._say(f"not healthy within {self._engine.deadline_ms / 1_000:g} s: ended")
                return _EXIT_DEADLINE
        return self._until_over(child, lease)

    def _until_healthy(self, child: subprocess.Popen[bytes], lease: Reservation) -> bool:
        begun = time.monotonic()
        deadline = begun + self._engine.deadline_ms / 1_000
        told = begun + _PROGRESS_S
        while child.poll() is None and not self._stopping and (now := time.monotonic()) < deadline:
            if self._engine.health.answers():
                self._say(f"healthy after {time.monotonic() - begun:.1f} s; the barrier is down")
                self._renew_at = 0.0
                return True
            if now >= told:
                told += _PROGRESS_S
                self._say(f"not healthy yet, after {now - begun:.0f} s")
            if not self._keep(lease, loaded=False):
                return False
            self._wait(child, _PROBE_S)
        return False

    def _until_over(self, child: subprocess.Popen[bytes], lease: Reservation) -> int:
        while child.poll() is None:
            if not self._stopping and not self._keep(lease, loaded=True):
                self._end(child)
            self._wait(child, max(0.1, min(_PROBE_S * 4, self._renew_at - time.monotonic())))
        status = child.returncode
        return status if status >= 0 else 128 - status

    def _keep(self, lease: Reservation, *, loaded: bool) -> bool:
        """Renew the lease when it is time; False when it is lost."""
        if time.monotonic() < self._renew_at or self._child is None:
            return True
        self._renew_at = time.monotonic() + TTL_S / 3
        try:
            heard = self._desk.renew(lease, loaded=loaded, pids=descendants(self._child.pid))
        except RefusedError as lost:
            self._say(f"the lease is lost: {lost}; stopping")
            return False
        if heard == self._unheard:
            self._unheard = not heard
            self._say("the arbiter answers again" if heard else "the arbiter does not answer; the engine goes on")
        return True

    def _end(self, child: subprocess.Popen[bytes]) -> None:
        """Ask the engine to end, and kill it if it does not."""
        self._send(child, signal.SIGTERM)
        self._wait(child, _GRACE_S)
        if child.poll() is None:
            self._send(child, signal.SIGKILL)
            child.wait()

    def _wait(self, child: subprocess.Popen[bytes], seconds: float) -> None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(seconds)

    def _send(self, child: subprocess.Popen[bytes], number: int) -> None:
        # Its session: vLLM's workers hold the memory, not the process that we started.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, number)

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        """Hand SIGTERM and SIGINT on to the engine; a third one kills it."""
        before = {number: signal.signal(number, self._on_signal) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        again, self._stopping = bool(self._stopping), number
        if not self._launching:
            raise _StoppedError
        if self._child is not None and self._child.returncode is None:
            self._send(self._child, signal.SIGKILL if again else number)


def descendants(pid: int) -> tuple[int, ...]:
    """Return a process and all below it, by /proc: an engine's workers hold its memory."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir() if Path("/proc").exists() else ():
        if entry.name.isdigit():
            with contextlib.suppress(OSError, IndexError, ValueError):
                parent = int((entry / "stat").read_text().rsplit(")", 1)[1].split()[1])
                children.setdefault(parent, []).append(int(entry.name))
    found = [pid]
    for each in found:
        found += sorted(children.get(each, []))
        if len(found) >= _MOST_PIDS:
            break
    return tuple(found[:_MOST_PIDS])
