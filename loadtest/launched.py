"""Headrace's own services as processes of a load test: started, waited for, stopped."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec

from loadtest.relay.children import Child

__all__ = ["Launched", "Running", "Service", "SiteError", "headrace", "running", "served", "service", "services"]

_START_S: Final = 60.0
_POLL_S: Final = 0.05


class SiteError(Exception):
    """A process does not do what it was started for; the message has its last words."""


class Service(msgspec.Struct, frozen=True):
    """What the ready-file of `headrace up` says of one service; it may say more."""

    name: str
    kind: str = ""
    #: None for what was there before and is only used.
    pid: int | None = None
    url: str | None = None
    ops_url: str | None = None


class _Ready(msgspec.Struct, frozen=True):
    services: list[Service]


def services(ready: Path) -> dict[str, Service]:
    """Return what a ready-file names, by name; empty while it is not there.

    Raises:
        SiteError: it is not as agreed.
    """
    try:
        found = msgspec.json.decode(ready.read_bytes(), type=_Ready).services
    except FileNotFoundError:
        return {}
    except msgspec.DecodeError as error:
        raise SiteError(f"{ready.name} is not as agreed: {error}") from error
    return {one.name: one for one in found}


def headrace(*arguments: str) -> list[str]:
    """Return the command line of `headrace` with these arguments."""
    return [sys.executable, "-m", "launch", *arguments]


def served(child: Child, serves: Callable[[], bool], within_s: float | None = None) -> None:
    """Wait until `serves` says that a child does what it was started for.

    Args:
        child: it runs.
        serves: asks it.
        within_s: longest wait; a minute where it is left out.

    Raises:
        SiteError: it ended, or did not in time.
    """
    within_s = _START_S if within_s is None else within_s
    deadline = time.monotonic() + within_s
    while not serves():
        if child.ended_within(_POLL_S):
            raise SiteError(child.epitaph("ended"))
        if time.monotonic() > deadline:
            raise SiteError(child.epitaph(f"does not serve within {within_s:g} s"))


@contextlib.contextmanager
def running(name: str, command: Sequence[str], ready: Path, cpus: set[int]) -> Iterator[dict[str, Any]]:
    """Run a server for the length of the block; yields what its ready-file says.

    Args:
        name: what people call it; its log is `name`.log beside the ready-file.
        command: that writes the ready-file once the server answers.
        ready: the ready-file.
        cpus: where it may run.

    Raises:
        SiteError: it does not start.
    """
    ready.unlink(missing_ok=True)
    child = Child(name, command, cpus=cpus, log=ready.parent / f"{name}.log")
    try:
        served(child, ready.exists)
        yield msgspec.json.decode(ready.read_bytes(), type=dict[str, Any])
    finally:
        child.stop()


@dataclass(frozen=True, slots=True)
class Running:
    """A server that answers.

    Args:
        pid: its process.
        address: host:port.
    """

    pid: int
    address: str


@contextlib.contextmanager
def service(command: str, settings: str, folder: Path, cpus: set[int], *options: str) -> Iterator[Running]:
    """Run a gRPC service of ours on free ports for the length of the block.

    Args:
        command: `arbiter`, `inference`, `compositor`.
        settings: its headrace.toml.
        folder: for its files.
        cpus: where it may run.
        options: further ones of its command line.

    Raises:
        SiteError: it does not start.
    """
    file, ready = folder / f"{command}.toml", folder / f"{command}.json"
    file.write_text(settings)
    places = ("--config", str(file), "--port", "0", "--ops-port", "0", "--ready-file", str(ready))
    with running(command, headrace(command, *places, *options), ready, cpus) as found:
        yield Running(int(found["pid"]), str(found["url"]).removeprefix("grpc://"))


class Launched:
    """Processes that end together, the last one first.

    Args:
        scratch: a folder for configuration and logs.
    """

    def __init__(self, scratch: Path) -> None:
        self.scratch = scratch
        self._children: list[Child] = []

    def start(self, name: str, *arguments: str) -> Child:
        """Run `headrace` with these arguments; its log is `name`.log."""
        log = self.scratch / f"{name}.log"
        child = Child(name, headrace(*arguments), cpus=os.sched_getaffinity(0), log=log)
        self._children.append(child)
        return child

    async def stop(self, child: Child) -> None:
        """End one."""
        self._children.remove(child)
        await asyncio.to_thread(child.stop)

    async def stop_all(self) -> None:
        """End all that still run."""
        while self._children:
            await asyncio.to_thread(self._children.pop().stop)

    async def until(self, serves: Callable[[], bool], child: Child) -> None:
        """Wait as `served`, while others go on; a wait that is cancelled ends with the child.

        Raises:
            SiteError: as `served`.
        """
        await asyncio.to_thread(served, child, serves)
