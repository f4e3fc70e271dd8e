"""Viewers of one server or of several, and what those take of a core meanwhile."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec

from loadtest.launched import SiteError
from loadtest.relay import proc
from loadtest.relay.children import Child

__all__ = ["Server", "percent"]

_SETTLE_S: Final = 1.5


class Server(msgspec.Struct, frozen=True):
    """Who sends."""

    #: Where a viewer posts its offer.
    url: str
    pid: int


def percent(servers: Sequence[Server], viewers: int, seconds: float, folder: Path, cpu: int) -> float:
    """Return what processes take of a core together while so many watch, as many at each.

    Args:
        servers: one or more.
        viewers: of all; the first ones get what is left over.
        seconds: of the measurement.
        folder: for logs.
        cpu: the viewers' core.

    Raises:
        SiteError: they cannot watch, or a server ended meanwhile.
    """
    with contextlib.ExitStack() as stack:
        clients = []
        for number, server in enumerate(servers):
            count = viewers // len(servers) + (number < viewers % len(servers))
            command = [sys.executable, "-m", "loadtest.viewers.client", server.url, str(count)]
            client = Child("viewers", command, cpus={cpu}, log=folder / "viewers.log", talks=True)
            stack.callback(client.stop)
            clients.append(client)
        for client in clients:
            if client.stdout.readline().strip() != b"ready":
                raise SiteError(client.epitaph("did not connect"))
        time.sleep(_SETTLE_S)
        pids = [server.pid for server in servers]
        began, before = time.monotonic(), proc.cpu_ns(pids)
        time.sleep(seconds)
        after, took = proc.cpu_ns(pids), time.monotonic() - began
        # Who has ended costs nothing, and nobody watches it.
        if before.keys() != after.keys():
            raise SiteError(f"a server at {', '.join(server.url for server in servers)} ended while it was measured")
        for client in clients:
            if client.ended_within(0.0):
                raise SiteError(client.epitaph("ended while they watched"))
            client.stdin.close()
        for client in clients:
            client.ended_within(10)
        return 100 * proc.spent_ns(before, after) / 1e9 / took
