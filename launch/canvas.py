"""A terminal's other screen, drawn again and again: whatever stood there before stands there afterwards."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import termios
from collections.abc import Callable, Coroutine, Sequence
from types import TracebackType
from typing import Any, Final, Self

from streamkit.ops.command import INTERRUPTED

__all__ = ["Canvas", "watched"]

#: The other screen, no cursor, and lines that are too long end at the margin.
_ENTER: Final = "\x1b[?1049h\x1b[?25l\x1b[?7l"
_LEAVE: Final = "\x1b[?7h\x1b[?25h\x1b[?1049l"
_HOME: Final = "\x1b[H"
_CLEAR: Final = "\x1b[2K"
_BELOW: Final = "\x1b[J"
#: Of a terminal that does not know.
_ROWS: Final = 24
#: Ended by SIGTERM, as shells have it.
_TERMINATED: Final = 143


async def watched(look: Callable[[Canvas], Coroutine[Any, Any, int]]) -> int:
    """Return the exit status of `look`, which draws, or of whoever ended it: `q` is 0, Ctrl-C 130, SIGTERM 143."""
    status: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    def end(with_status: int) -> None:
        if not status.done():
            status.set_result(with_status)

    with Canvas(end) as canvas:
        looking = asyncio.ensure_future(look(canvas))
        await asyncio.wait((looking, status), return_when=asyncio.FIRST_COMPLETED)
        return looking.result() if looking.done() else status.result()


class Canvas:
    """A context manager, inside a running loop: it gives the screen back however it ends, and while it is stopped.

    Args:
        end: called with the exit status that `q`, Ctrl-C or SIGTERM stands for.
    """

    def __init__(self, end: Callable[[int], object]) -> None:
        self._end = end
        self._keys: list[int | list[bytes | int]] | None = None

    def __enter__(self) -> Self:
        loop = asyncio.get_running_loop()
        # Here rather than as an exception: nothing was echoed, so there is no ^C for the shell's prompt to follow.
        loop.add_signal_handler(signal.SIGINT, self._end, INTERRUPTED)
        loop.add_signal_handler(signal.SIGTERM, self._end, _TERMINATED)
        loop.add_signal_handler(signal.SIGTSTP, self._stop)
        self._take()
        if self._keys is not None:
            loop.add_reader(sys.stdin.fileno(), self._pressed)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        loop = asyncio.get_running_loop()
        if self._keys is not None:
            loop.remove_reader(sys.stdin.fileno())
        loop.remove_signal_handler(signal.SIGTSTP)
        loop.remove_signal_handler(signal.SIGTERM)
        loop.remove_signal_handler(signal.SIGINT)
        self._give_back()

    @property
    def width(self) -> int:
        """Columns, now; the variables COLUMNS and LINES do not follow a window that is made larger."""
        return os.get_terminal_size(sys.stdout.fileno()).columns

    def draw(self, lines: Sequence[str]) -> None:
        """Put lines over those that were there; what does not fit is said and left out."""
        rows = os.get_terminal_size(sys.stdout.fileno()).lines or _ROWS
        shown = list(lines)
        while shown and not shown[-1]:
            shown.pop()
        if len(shown) > rows:
            shown = [*shown[: rows - 1], f"  … {len(shown) - rows + 1} more lines; a taller window shows them"]
        # No newline at the end: it would scroll a full screen.
        self._write(_HOME + "\n".join(f"{_CLEAR}{line}" for line in shown) + _BELOW)

    def _pressed(self) -> None:
        keys = os.read(sys.stdin.fileno(), 64)
        if not keys:
            asyncio.get_running_loop().remove_reader(sys.stdin.fileno())
        elif b"q" in keys:
            self._end(0)

    def _stop(self) -> None:
        """Ctrl-Z: the shell gets its screen, and we come back to ours."""
        self._give_back()
        os.kill(os.getpid(), signal.SIGSTOP)
        self._take()

    def _take(self) -> None:
        with contextlib.suppress(termios.error):  # standard input is no terminal: there are no keys
            self._keys = termios.tcgetattr(sys.stdin)
            quiet = termios.tcgetattr(sys.stdin)
            quiet[3] &= ~(termios.ECHO | termios.ICANON)
            termios.tcsetattr(sys.stdin, termios.TCSANOW, quiet)
        self._write(_ENTER)

    def _give_back(self) -> None:
        self._write(_LEAVE)
        if self._keys is not None:
            termios.tcsetattr(sys.stdin, termios.TCSANOW, self._keys)

    @staticmethod
    def _write(text: str) -> None:
        sys.stdout.write(text)
        sys.stdout.flush()
