"""The load process's end of the pipes to the benchmark."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Final, Generic, TypeVar

import msgspec

from loadtest.relay.load.messages import Reply

STDIN: Final = 0
STDOUT: Final = 1

CommandT = TypeVar("CommandT")


class HungUpError(Exception):
    """The benchmark is gone; the load process ends too."""


class ControlPipe(Generic[CommandT]):
    """Reads commands from stdin without blocking for more than is there, and writes replies to stdout.

    Args:
        commands: the union of message types to accept.
    """

    def __init__(self, commands: type[CommandT]) -> None:
        self._decoder = msgspec.json.Decoder(commands)
        self._held = b""

    def commands(self) -> Iterator[CommandT]:
        """Yield the commands that have arrived; call it when stdin is readable.

        Raises:
            HungUpError: end of file.
        """
        data = os.read(STDIN, 65536)
        if not data:
            raise HungUpError
        *lines, self._held = (self._held + data).split(b"\n")
        for line in lines:
            yield self._decoder.decode(line)

    def reply(self, message: Reply) -> None:
        """Send one reply."""
        left = memoryview(msgspec.json.encode(message) + b"\n")
        while left:
            left = left[os.write(STDOUT, left) :]
