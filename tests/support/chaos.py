"""The chaos proxy as a process of its own, changed while connections are open."""

from __future__ import annotations

import contextlib
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tests.support.exchange import Exchange
from tests.support.processes import running, until

__all__ = ["Chaos", "chaos"]


@dataclass
class Chaos:
    """A running chaos proxy."""

    #: Where to connect.
    url: str
    control: str

    def set(self, *toxics: Mapping[str, Any]) -> None:
        """Let exactly these be wrong; AssertionError if one is not understood."""
        self._ask("PUT", "/toxics", list(toxics))

    def clear(self) -> None:
        """Let nothing be wrong."""
        self._ask("DELETE", "/toxics")

    def cut(self) -> int:
        """Reset every connection; return how many there were."""
        return int(self._ask("POST", "/cut")["cut"])

    def state(self) -> dict[str, Any]:
        """Return toxics, open connections and held bytes."""
        return self._ask("GET", "/")

    def _ask(self, method: str, path: str, body: Any = None) -> dict[str, Any]:
        with Exchange(self.control) as asking:
            answer = asking.send(method, path, body).read()
        assert answer.status == 200, answer.body
        found: dict[str, Any] = answer.json
        return found


@contextlib.contextmanager
def chaos(to_url: str, folder: Path, *, name: str = "chaos") -> Iterator[Chaos]:
    """Run a chaos proxy in front of `to_url` for the length of the block."""
    line = [sys.executable, "-m", "launch", "chaos", "--to", urlsplit(to_url).netloc]
    with running(line, folder, name=name) as process:
        found = until(lambda: re.findall(r"(http://\S+) → .*control (http://\S+);", process.output()))
        yield Chaos(*found[0])
