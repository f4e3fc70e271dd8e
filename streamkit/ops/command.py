"""How a command ends: its exit status, and one line for a person where it cannot be done as asked."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from typing import Final

from streamkit.ops.options import Parser
from streamkit.ops.settings import SettingsError

__all__ = ["INTERRUPTED", "USAGE", "carry_out"]

#: It cannot be done as asked.
USAGE: Final = 2
#: Ended by Ctrl-C, as shells have it.
INTERRUPTED: Final = 130
_UNREAD: Final = 1


def carry_out(
    parser: Parser,
    arguments: Sequence[str],
    run: Callable[[argparse.Namespace], int],
    *,
    refusals: tuple[type[Exception], ...] = (),
    named: Callable[[argparse.Namespace], str] | None = None,
) -> int:
    """Run a command and return its exit status: `run`'s own, or what its end was.

    Args:
        parser: of its arguments.
        arguments: as they were given.
        run: does it; a SettingsError is a refusal of what was asked.
        refusals: further ones.
        named: what a refusal is told of; the parser's name where it is left out.
    """
    refused: tuple[type[Exception], ...] = (SettingsError, *refusals)
    name = parser.prog
    try:
        options = parser.parse_args(list(arguments))
        name = named(options) if named is not None else name
        status = run(options)
        # Here, where it is an end like another; at exit Python would complain.
        sys.stdout.flush()
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else USAGE
    except BrokenPipeError:
        # Whoever read our output left; what is still in the buffer must not be tried again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _UNREAD
    except refused as error:
        print(f"{name}: {error}", file=sys.stderr)  # noqa: T201  it is what the command says
        return USAGE
    except KeyboardInterrupt:
        if sys.stderr.isatty():
            # The terminal has written ^C where the cursor stood; the shell's prompt shall not follow it.
            print(file=sys.stderr)  # noqa: T201  as above
        return INTERRUPTED
    return status
