"""A whole gateway on free ports: control, edge and a fast simulator, as `headrace up` starts them."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.support.processes import Running, launch

__all__ = ["FAST", "Gateway", "gateway", "start_gateway"]

#: A simulator that nobody waits for, and services that stop quickly.
FAST = """
[edge]
drain_ms = 5_000

[control]
probe_interval_ms = 200

[simulator]
ttft_ms = 2.0
itl_ms = 1.0
"""


@dataclass
class Gateway:
    """A running gateway."""

    up: Running
    _closing: contextlib.ExitStack = field(repr=False)

    @property
    def edge_url(self) -> str:
        """Where clients go."""
        return self._member("edge", "url")

    @property
    def edge_ops_url(self) -> str:
        """The edge's health, metrics and events."""
        return self._member("edge", "ops_url")

    @property
    def control_url(self) -> str:
        """Where edges go."""
        return self._member("control", "url")

    @property
    def control_ops_url(self) -> str:
        """Control's health, metrics and events."""
        return self._member("control", "ops_url")

    @property
    def simulator_url(self) -> str:
        """The simulated vLLM server."""
        return self._member("simulator-vllm", "url")

    @property
    def pids(self) -> dict[str, int]:
        """Process ids by service name, as they are now: a restart changes them."""
        return {entry["name"]: entry["pid"] for entry in self.up.ready()["services"] if entry["pid"]}

    def stop(self) -> int:
        """End it, and return the exit status of `headrace up`."""
        status = self.up.stop(ms=20_000)
        self._closing.close()
        return status

    def _member(self, name: str, member: str) -> str:
        for entry in self.up.ready()["services"]:
            if entry["name"] == name:
                return str(entry[member])
        raise LookupError(f"no {name} runs here")


def start_gateway(config_text: str | None = None, *, environment: dict[str, str] | None = None) -> Gateway:
    """Start a gateway from the text of a `headrace.toml` (`FAST` when left out); the caller must `stop()` it.

    Raises:
        AssertionError: it did not come up; the message holds what it said.
    """
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="headrace-test-")))
        config = folder / "given.toml"
        config.write_text(FAST if config_text is None else config_text)
        options = ("--port-base", "0", "--config", str(config))
        up = stack.enter_context(launch("up", *options, folder=folder, environment=environment))
        up.ready()
        return Gateway(up, stack.pop_all())


@pytest.fixture(scope="session")
def gateway() -> Iterator[Gateway]:
    """One gateway with a fast simulator for the whole session; tests must not stop parts of it."""
    ours = start_gateway()
    try:
        yield ours
    finally:
        ours.stop()
