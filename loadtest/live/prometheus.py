"""A Prometheus of our own for the length of a run: what it scrapes, and asking it."""

from __future__ import annotations

import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import msgspec

from loadtest.launched import SiteError, served
from loadtest.relay.children import Child
from loadtest.relay.gateways.base import answers, find_program, free_port

__all__ = ["Prometheus", "QueryError", "Series"]

PROGRAM: Final = "prometheus"
_START_S: Final = 30.0
_CALL_S: Final = 10.0


class QueryError(Exception):
    """Prometheus does not take a query; the message is its own."""


class Series(msgspec.Struct, frozen=True):
    """One line of an answer: `value` of an instant, `values` of a range, as (Unix seconds, number in words)."""

    metric: dict[str, str]
    value: tuple[float, str] | None = None
    values: tuple[tuple[float, str], ...] = ()


class _Data(msgspec.Struct, frozen=True):
    result: list[Series] = []


class _Answer(msgspec.Struct, frozen=True):
    status: str
    data: _Data | None = None
    error: str = ""


class Prometheus:
    """Runs until `stop`.

    Args:
        jobs: ops addresses (`host:port`) by job.
        folder: for its configuration, data and log.
        rules: rule files.
        every_ms: pause between scrapes, and between evaluations of rules.
        cpus: where it may run.

    Raises:
        QueryError: it is not installed, or does not start.
    """

    def __init__(
        self,
        jobs: Mapping[str, Sequence[str]],
        folder: Path,
        *,
        rules: Sequence[Path] = (),
        every_ms: int = 1_000,
        cpus: set[int],
    ) -> None:
        program = find_program(PROGRAM)
        if program is None:
            raise QueryError(f"{PROGRAM} is not installed; .ci/install-system installs it on Debian")
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        config = folder / "prometheus.json"  # which is YAML as well
        config.write_bytes(
            msgspec.json.encode(
                {
                    "global": {"scrape_interval": f"{every_ms}ms", "evaluation_interval": f"{every_ms}ms"},
                    "rule_files": [str(path) for path in rules],
                    "scrape_configs": [
                        {"job_name": job, "static_configs": [{"targets": list(targets)}]}
                        for job, targets in jobs.items()
                    ],
                }
            )
        )
        line = [program, f"--config.file={config}", f"--storage.tsdb.path={folder / 'data'}"]
        line += [f"--web.listen-address=127.0.0.1:{port}", "--log.level=warn"]
        self._child = Child(PROGRAM, line, cpus=cpus, log=folder / "prometheus.log")
        try:
            served(self._child, lambda: answers(self.url, "/-/ready", 1.0), _START_S)
        except SiteError as error:
            self._child.stop()
            raise QueryError(str(error)) from error

    def ask(self, expr: str) -> list[Series]:
        """Return the answer to an instant query.

        Raises:
            QueryError: it is no PromQL.
        """
        return self._ask("query", {"query": expr})

    def ask_range(self, expr: str, begin_s: float, end_s: float, step_s: float) -> list[Series]:
        """Return the answer to a range query; times are Unix seconds.

        Raises:
            QueryError: it is no PromQL.
        """
        return self._ask("query_range", {"query": expr, "start": begin_s, "end": end_s, "step": step_s})

    def stop(self) -> None:
        """End it."""
        self._child.stop()

    def _ask(self, what: str, fields: Mapping[str, object]) -> list[Series]:
        request = urllib.request.Request(  # noqa: S310  our own address
            f"{self.url}/api/v1/{what}", data=urllib.parse.urlencode(fields).encode()
        )
        try:
            with urllib.request.urlopen(request, timeout=_CALL_S) as answer:  # noqa: S310  as above
                body = answer.read()
        except urllib.error.HTTPError as error:
            body = error.read()
        found = msgspec.json.decode(body, type=_Answer)
        if found.status != "success" or found.data is None:
            raise QueryError(f"{fields['query']}: {found.error}")
        return found.data.result
