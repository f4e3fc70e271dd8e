"""Child processes of the benchmark: started on a leash, in a group of their own, and always ended."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Final

import loadtest
from loadtest.relay import proc
from loadtest.relay.leash import leashed

#: After SIGTERM a child has this long before it is killed.
GRACE_S: Final = 5.0
#: Where the packages are, for children that run our modules.
ROOT: Final = Path(loadtest.__file__ or "").resolve().parents[1]


class Child:
    """A program on given CPUs, with everything that it starts.

    Args:
        name: what people call it.
        command: program and arguments.
        cpus: where it may run.
        log: file that takes its output (and its stdout unless `talks`).
        environment: added to ours.
        talks: stdin and stdout are pipes.

    Raises:
        OSError: it cannot be started.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        *,
        cpus: set[int],
        log: Path,
        environment: Mapping[str, str] | None = None,
        talks: bool = False,
    ) -> None:
        self.name = name
        self._log = log
        path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")]))
        with log.open("ab") as output:
            self._process = subprocess.Popen(  # noqa: S603  # Programs of the benchmark's own choice.
                leashed(list(command), cpus),
                stdin=subprocess.PIPE if talks else subprocess.DEVNULL,
                stdout=subprocess.PIPE if talks else output,
                stderr=output,
                env={**os.environ, "PYTHONPATH": path, **(environment or {})},
                cwd=log.parent,
                start_new_session=True,
                bufsize=0,
            )

    @property
    def pid(self) -> int:
        """The pid, which is its process group's too."""
        return self._process.pid

    @property
    def stdin(self) -> IO[bytes]:
        """The pipe to it (only if it `talks`)."""
        assert self._process.stdin is not None  # noqa: S101  # A wrong constructor call.
        return self._process.stdin

    @property
    def stdout(self) -> IO[bytes]:
        """The pipe from it (only if it `talks`)."""
        assert self._process.stdout is not None  # noqa: S101  # A wrong constructor call.
        return self._process.stdout

    def ended_within(self, seconds: float) -> bool:
        """Wait for its end so long at most; whether it has ended."""
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        return True

    def log_tail(self, lines: int = 6) -> str:
        """Return the last lines of its output."""
        text = self._log.read_text(errors="replace") if self._log.exists() else ""
        return "\n".join(text.splitlines()[-lines:])

    def epitaph(self, what: str) -> str:
        """Say what is wrong with it: its last words on the first line, what came before on the next."""
        lines = self.log_tail().splitlines()
        return "\n".join([f"{self.name} {what}: {lines[-1] if lines else 'it says nothing'}", *lines[:-1]])

    def stop(self) -> None:
        """End it and all that it started: SIGTERM, then SIGKILL to what is still there."""
        # Pid and start time together: a pid alone may be someone else's by the time it is killed.
        family = {pid: proc.start_ticks(pid) for pid in proc.tree([self.pid])}
        self._signal_group(signal.SIGTERM)
        self.ended_within(GRACE_S)
        self._signal_group(signal.SIGKILL)
        for pid, started in family.items():
            if started is not None and proc.start_ticks(pid) == started and pid != os.getpid():
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    continue
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe:
                pipe.close()

    def _signal_group(self, number: signal.Signals) -> None:
        try:
            os.killpg(self.pid, number)
        except ProcessLookupError:
            return
