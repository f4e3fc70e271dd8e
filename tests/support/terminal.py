"""A command of ours in a terminal of its own, and what it wrote there."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
from collections.abc import Iterator
from pathlib import Path

from tests.support.processes import until

__all__ = ["GIVEN_BACK", "HOME", "Terminal", "terminal"]

ROOT = Path(__file__).parents[2]
HOME = "\x1b[H"
#: The other screen, the cursor, the margin: as they were.
GIVEN_BACK = ("\x1b[?1049l", "\x1b[?25h", "\x1b[?7h")
#: In a session of its own the first terminal that is opened is the session's: Ctrl-C typed there reaches it alone.
_OWN = """
import os, sys
os.close(os.open(os.ttyname(0), os.O_RDWR))
from launch.cli import main
sys.exit(main(sys.argv[1:]))
"""
_CODES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


class Terminal:
    """`headrace …` in a terminal of some rows and columns, and what it wrote there."""

    def __init__(self, *arguments: str, rows: int = 24, columns: int = 80) -> None:
        self.fd, child = pty.openpty()
        fcntl.ioctl(self.fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        self.before = termios.tcgetattr(self.fd)
        self.written = ""
        line = [sys.executable, "-c", _OWN, *arguments]
        kept = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES", "NO_COLOR")}
        self.process = subprocess.Popen(
            line,
            stdin=child,
            stdout=child,
            stderr=child,
            cwd=ROOT,
            env={**kept, "TERM": "xterm"},
            start_new_session=True,
        )
        self._child = child  # held, so that the terminal is there after its last writer

    def read(self) -> str:
        """Return everything that was written so far."""
        while select.select([self.fd], [], [], 0)[0]:
            self.written += os.read(self.fd, 65_536).decode(errors="replace")
        return self.written

    def lines(self) -> list[str]:
        """Return every whole line so far, without its colours."""
        return _CODES.sub("", self.read()).replace("\r", "").split("\n")[:-1]

    def pages(self) -> list[str]:
        """Return every page that was written whole."""
        return self.read().split(HOME)[1:-1]

    def shows(self, text: str) -> str:
        """Wait for a page with a text and return it."""
        count = len(self.pages())
        return until(lambda: next((page for page in self.pages()[count:] if text in page), ""), what=text)

    def press(self, keys: bytes) -> None:
        """Type something."""
        os.write(self.fd, keys)

    def ended(self) -> int:
        """Return the exit status, once there is one and everything was read."""
        status = self.process.wait(10)
        self.read()
        return status

    def close(self) -> None:
        """End it."""
        self.process.kill()
        self.process.wait()
        os.close(self._child)
        os.close(self.fd)


@contextlib.contextmanager
def terminal(*arguments: str, rows: int = 24, columns: int = 80) -> Iterator[Terminal]:
    """Run a command in a terminal for the length of the block."""
    found = Terminal(*arguments, rows=rows, columns=columns)
    try:
        yield found
    finally:
        found.close()
