"""The relays that people write in an afternoon; they ship with the benchmark (`loadtest.relay.naive`)."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from loadtest.relay.gateways.base import CONNECTIONS, ProcessGateway
from loadtest.relay.naive.upstream import VARIABLE


class Naive(ProcessGateway):
    """Starlette in front of one HTTP client library, run by uvicorn with uvloop and httptools.

    Args:
        library: `httpx` or `aiohttp`.
    """

    def __init__(self, library: str) -> None:
        super().__init__(f"starlette-{library}", interpreted=True)
        self._library = library

    def available(self) -> str | None:
        """It needs the libraries."""
        missing = [
            name
            for name in ("uvicorn", "uvloop", "httptools", "starlette", self._library)
            if importlib.util.find_spec(name) is None
        ]
        return f"not installed here: {', '.join(missing)}" if missing else None

    def version(self) -> str:
        """Return the versions of its parts."""
        parts = ("starlette", self._library, "uvicorn")
        return ", ".join(f"{name} {importlib.metadata.version(name)}" for name in parts)

    def environment(self, backend_url: str) -> Mapping[str, str]:
        """Tell it where the backend is."""
        return {VARIABLE: backend_url}

    def command(self, backend_url: str, port: int, scratch: Path) -> Sequence[str]:
        """Return uvicorn's command line."""
        return [
            sys.executable, "-m", "uvicorn", f"loadtest.relay.naive.with_{self._library}:app",
            "--host", "127.0.0.1", "--port", str(port), "--loop", "uvloop", "--http", "httptools",
            "--workers", "1", "--no-access-log", "--log-level", "warning", "--backlog", str(CONNECTIONS),
        ]  # fmt: skip
