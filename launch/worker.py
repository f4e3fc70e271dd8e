"""One worker's place behind a shared address: its sockets, its present life, and the lives that drain."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import sys
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from launch.child import ending

__all__ = ["Life", "Slot", "StartError", "terminate"]

_POLL_S: Final = 0.02
_START_S: Final = 30.0


class StartError(Exception):
    """A worker did not come up; one line."""


@dataclass(frozen=True, slots=True)
class Life:
    """One process of one worker, and the members of its ready file."""

    process: asyncio.subprocess.Process
    ready: dict[str, Any]


@dataclass(slots=True)
class Slot:
    """One worker's place. Its sockets stay open over all its lives."""

    number: int
    public: list[socket.socket]
    ops: list[socket.socket]
    life: Life | None = None
    #: Processes that do not serve yet, or no more.
    draining: set[asyncio.subprocess.Process] = field(default_factory=set)
    #: When lives were lost, `monotonic()`.
    deaths: deque[float] = field(default_factory=deque)

    async def start(self, arguments: Sequence[str], ready_file: Path, *, given_up: Callable[[], bool]) -> Life:
        """Start a life and return it once it serves; it is the present one from then on.

        Args:
            arguments: a subcommand of `headrace` and its options.
            ready_file: written by the worker.
            given_up: says that nobody waits for it any more.

        Raises:
            StartError: it ended, or was not ready in time.
        """
        fds, ops_fds = _numbers(self.public), _numbers(self.ops)
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "launch", *arguments,
            "--worker", str(self.number), "--fds", _list(fds), "--ops-fds", _list(ops_fds),
            "--ready-file", str(ready_file), "--leave-with", str(os.getpid()),
            stdin=asyncio.subprocess.DEVNULL, pass_fds=(*fds, *ops_fds),
            # The terminal's Ctrl-C is for the supervisor alone.
            start_new_session=True,
        )  # fmt: skip
        self.draining.add(process)
        deadline = time.monotonic() + _START_S
        while not ready_file.exists():  # noqa: ASYNC240  a stat of a small file
            if process.returncode is not None or given_up() or time.monotonic() > deadline:
                await self._discard(process)
                raise StartError(f"worker {self.number} {ending(process.returncode)} before it was ready")
            await asyncio.sleep(_POLL_S)
        self.draining.discard(process)
        self.life = Life(process, json.loads(ready_file.read_bytes()))  # noqa: ASYNC240
        return self.life

    async def _discard(self, process: asyncio.subprocess.Process) -> None:
        if process.returncode is None:
            terminate(process)
            try:
                async with asyncio.timeout(_START_S):
                    await process.wait()
            except TimeoutError:
                process.kill()
                await process.wait()
        self.draining.discard(process)


def terminate(process: asyncio.subprocess.Process) -> None:
    """Send SIGTERM, unless it has ended."""
    with contextlib.suppress(ProcessLookupError):
        process.send_signal(signal.SIGTERM)


def _numbers(sockets: Sequence[socket.socket]) -> tuple[int, ...]:
    return tuple(sock.fileno() for sock in sockets)


def _list(numbers: Sequence[int]) -> str:
    return ",".join(map(str, numbers))
