"""The command line's parser: a mistake is one line with a hint, never a page of usage."""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import Final, NoReturn

from streamkit.ops.settings import nearest
from streamkit.wire.address import parsed

__all__ = ["Parser", "address", "descriptors", "free_or_port", "new_file"]

_UNKNOWN: Final = re.compile(r"unrecognized arguments: (?P<rest>.*)", re.DOTALL)
_CHOICE: Final = re.compile(r"argument (?P<what>\S+): invalid choice: '(?P<got>[^']*)' \(choose from (?P<known>.*)\)")


class Parser(argparse.ArgumentParser):
    """argparse that says what is wrong in one line and exits with 2."""

    def __init__(self, **keywords: object) -> None:
        super().__init__(allow_abbrev=False, formatter_class=_Help, **keywords)  # type: ignore[arg-type]
        self._positionals.title = "arguments"
        self._optionals.title = "options"

    def error(self, message: str) -> NoReturn:
        """Exit with 2 after one line."""
        self.exit(2, f"{self.prog}: {self._plain(message)}; see {self.prog} --help\n")

    def parse_known_args(self, args=None, namespace=None):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201
        """Refuse unknown options here, so that the command which got them names itself."""
        found, rest = super().parse_known_args(args, namespace)
        if rest:
            self.error(f"unrecognized arguments: {' '.join(rest)}")
        return found, rest

    def _plain(self, message: str) -> str:
        if unknown := _UNKNOWN.fullmatch(message):
            first = unknown["rest"].split()[0]
            if not first.startswith("-"):
                return f'unexpected "{first}"'
            name = first.split("=")[0]
            return f"unknown option {name}{nearest(name, self._option_string_actions)}"
        if choice := _CHOICE.fullmatch(message):
            known = re.findall(r"[\w-]+", choice["known"])
            return f'no command "{choice["got"]}"{nearest(choice["got"], known)}'
        return message.replace("the following arguments are required", "missing")


class _Help(argparse.HelpFormatter):
    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=26, width=80)


def free_or_port(text: str) -> int:
    """Read a port; 0 takes a free one."""
    if not text.isdecimal() or int(text) > 65_535:
        raise argparse.ArgumentTypeError(f"expected a port from 0 to 65535, got {text}")
    return int(text)


def address(text: str) -> tuple[str, int]:
    """Read HOST:PORT."""
    try:
        return parsed(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def new_file(text: str) -> Path:
    """Read the path of a file to be written: what cannot be is said before the work whose result it is to hold."""
    path = Path(text)
    if path.is_dir() or not path.parent.is_dir():
        why = "that is a folder" if path.is_dir() else f"there is no folder {path.parent}"
        raise argparse.ArgumentTypeError(f"expected a file to write, got {text}: {why}")
    return path


def descriptors(text: str) -> tuple[int, ...]:
    """Read file descriptors, with commas between them."""
    return tuple(int(number) for number in text.split(","))
