"""Real processes for tests: started, waited for without sleeping blindly, and always ended, by their own pid."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from tests.support.timing import MS

__all__ = ["Running", "alive", "launch", "running", "until"]

T = TypeVar("T")
_POLL_S = 0.01


def until(condition: Callable[[], T], *, ms: int = 10_000, what: str = "") -> T:
    """Return the first true value of `condition()`; AssertionError after `ms`."""
    deadline = time.monotonic() + ms * MS
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {ms} ms: {what or condition}")
        time.sleep(_POLL_S)
    return value


def alive(pid: int) -> bool:
    """Say whether a process runs; a zombie does not."""
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    return False


@dataclass
class Running:
    """A process of ours, with its output in a file."""

    process: subprocess.Popen[bytes]
    log: Path
    ready_file: Path | None = None

    @property
    def pid(self) -> int:
        """Its process id."""
        return self.process.pid

    def output(self) -> str:
        """Return all that it wrote so far."""
        return self.log.read_text(errors="replace")

    def ready(self, *, ms: int = 30_000) -> dict[str, Any]:
        """Wait for its ready file and return what is in it; AssertionError with its output otherwise."""
        path = self.ready_file
        assert path is not None, "it was started without a ready file"
        deadline = time.monotonic() + ms * MS
        while not path.exists():
            if self.process.poll() is not None:
                raise AssertionError(f"it ended with {self.process.returncode} before it was ready:\n{self.output()}")
            if time.monotonic() > deadline:
                raise AssertionError(f"it was not ready within {ms} ms:\n{self.output()}")
            time.sleep(_POLL_S)
        found: dict[str, Any] = json.loads(path.read_bytes())
        return found

    def send(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self.process.send_signal(number)

    def wait(self, *, ms: int = 10_000) -> int:
        """Return its exit status; AssertionError with its output when it does not end."""
        try:
            return self.process.wait(ms * MS)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"it did not end within {ms} ms:\n{self.output()}") from None

    def stop(self, *, ms: int = 10_000) -> int:
        """End it with SIGTERM and return its exit status; SIGKILL when it does not listen."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(ms * MS)
            except subprocess.TimeoutExpired:
                self.process.kill()
        return self.process.wait()


@contextlib.contextmanager
def running(
    arguments: Sequence[str],
    folder: Path,
    *,
    name: str = "process",
    environment: Mapping[str, str] | None = None,
    ready_file: Path | None = None,
) -> Iterator[Running]:
    """Run `arguments` inside `folder` for the length of the block, its output in `<name>.log` there."""
    log = folder / f"{name}.log"
    root = str(Path(__file__).resolve().parents[2])
    with log.open("wb") as out:
        process = subprocess.Popen(
            arguments,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            env={**os.environ, "PYTHONPATH": root, **(environment or {})},
        )
    ours = Running(process, log, ready_file)
    try:
        yield ours
    finally:
        ours.stop()


@contextlib.contextmanager
def launch(
    command: str, *arguments: str, folder: Path, name: str | None = None, environment: Mapping[str, str] | None = None
) -> Iterator[Running]:
    """Run `headrace <command>` with a ready file; it ends with the test process, however that ends."""
    name = name or command
    ready_file = folder / f"{name}.json"
    options = ["--ready-file", str(ready_file), "--leave-with", str(os.getpid())]
    line = [sys.executable, "-m", "launch", command, *arguments, *options]
    # Whatever it leaves when it is killed goes with the test's folder.
    here = {"TMPDIR": str(folder), **(environment or {})}
    with running(line, folder, name=name, environment=here, ready_file=ready_file) as ours:
        yield ours
