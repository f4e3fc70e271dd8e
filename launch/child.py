"""One service as a child process: started, watched, ended, and never anybody else's process."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from launch.leave import leave_with
from launch.logs import Log

__all__ = ["Child", "Program", "StartError", "ending"]

_POLL_S: Final = 0.02


class StartError(Exception):
    """A child did not come up; the message is one line, `lines` its last words, `status` how it ended."""

    def __init__(self, message: str, lines: list[str], status: int | None = None) -> None:
        super().__init__(message)
        self.lines = lines
        self.status = status


@dataclass(frozen=True, slots=True)
class Program:
    """What a child runs.

    Args:
        line: its command line.
        ready: returns, for the process's id, what its ready file would say; None = not ready yet.
        foreign: it is none of ours, so it must be made to end with us.
    """

    line: list[str]
    ready: Callable[[int], dict[str, Any] | None]
    foreign: bool = False


@dataclass(frozen=True, slots=True)
class Child:
    """A child that is ready, or was.

    Start one with `Child.start`; `process.wait()` returns when it has ended.
    """

    name: str
    process: asyncio.subprocess.Process
    #: The members of its ready file.
    ready: dict[str, Any]
    log: Log
    _copying: asyncio.Task[None]

    @classmethod
    async def start(
        cls, name: str, program: Program | list[str], *, folder: Path, start_ms: int, working: Callable[[], None]
    ) -> Child:
        """Start a program and wait until it is ready.

        Args:
            name: its name, and the stem of its files in `folder`.
            program: what to run; a list is a subcommand of ours and its options.
            folder: for the log and the ready file.
            start_ms: longest wait.
            working: called about fifty times a second meanwhile.

        Raises:
            StartError: it ended, or was not ready in time.
        """
        if isinstance(program, list):
            program = _ours(program, folder / f"{name}.ready.json")
        log = Log(folder / f"{name}.log")
        process = await asyncio.create_subprocess_exec(
            *program.line,
            stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
            # The terminal's Ctrl-C is for `up` alone: a child that got it twice would cut its streams.
            start_new_session=True,
            preexec_fn=functools.partial(leave_with, os.getpid()) if program.foreign else None,
        )  # fmt: skip
        if process.stdout is None:
            raise RuntimeError("a pipe was asked for")
        copying = asyncio.create_task(log.copy(process.stdout), name=f"log of {name}")
        child = cls(name, process, {}, log, copying)
        try:
            async with asyncio.timeout(start_ms / 1000):
                while (ready := program.ready(process.pid)) is None:
                    if process.returncode is not None:
                        raise StartError(*await child._last_words())
                    working()
                    await asyncio.sleep(_POLL_S)
            child.ready.update(ready)
        except TimeoutError:
            await child.stop(0)
            raise StartError(f"{name} was not ready within {start_ms} ms", log.tail()) from None
        except BaseException:
            await child.stop(0)
            raise
        return child

    def interrupt(self) -> None:
        """Send SIGTERM; a second one makes the child cut its work."""
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(signal.SIGTERM)

    def hangup(self) -> None:
        """Send SIGHUP: read the configuration again."""
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(signal.SIGHUP)

    async def stop(self, grace_ms: int) -> None:
        """End the child: SIGTERM, `grace_ms` to finish, then SIGKILL."""
        if self.process.returncode is None:
            if grace_ms:
                self.interrupt()
            try:
                async with asyncio.timeout(grace_ms / 1000):
                    await self.process.wait()
            except TimeoutError:
                with contextlib.suppress(ProcessLookupError):
                    self.process.kill()
                await self.process.wait()
        await self._close()

    async def _last_words(self) -> tuple[str, list[str], int | None]:
        await self._close()
        status = self.process.returncode
        return f"{self.name} {ending(status)}", self.log.tail(), status

    async def _close(self) -> None:
        # A grandchild may hold the pipe open for longer than anybody wants to wait.
        await asyncio.wait({self._copying}, timeout=1)
        self._copying.cancel()
        await asyncio.gather(self._copying, return_exceptions=True)
        self.log.close()


def _ours(arguments: list[str], ready_file: Path) -> Program:
    ready_file.unlink(missing_ok=True)

    def ready(_pid: int) -> dict[str, Any] | None:
        if not ready_file.exists():
            return None
        members: dict[str, Any] = json.loads(ready_file.read_bytes())
        ready_file.unlink(missing_ok=True)
        return members

    options = ["--ready-file", str(ready_file), "--leave-with", str(os.getpid())]
    return Program([sys.executable, "-m", "launch", *arguments, *options], ready)


def ending(status: int | None) -> str:
    """Return how a process ended, in words."""
    if status is not None and status < 0:
        return f"was ended by {signal.Signals(-status).name}"
    return f"ended with status {status}"
