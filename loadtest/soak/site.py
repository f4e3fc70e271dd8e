"""The site under soak: two simulators that can be killed, and a gateway over them as `headrace up` starts it."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path
from typing import Final, Self

from loadtest.launched import Launched, SiteError, services
from loadtest.relay.children import Child
from loadtest.relay.gateways.base import answers, free_port

__all__ = ["MODEL", "Site", "SiteError"]

MODEL: Final = "sim-chat"
_EDGE: Final = """\
[edge]
slow_reader_ms = 5_000

[control]
probe_interval_ms = 500
"""


class Site:
    """An async context manager.

    Args:
        scratch: a folder for configuration and logs.

    Raises:
        SiteError: on entry, when it does not start.
    """

    def __init__(self, scratch: Path) -> None:
        self._scratch = scratch
        self._ports = (free_port(), free_port())
        self._simulators: dict[int, Child] = {}
        self._launched = Launched(scratch)
        self.url = ""
        self.ops_url = ""
        self.edge_pid = 0
        #: Simulators killed so far.
        self.kills = 0

    async def __aenter__(self) -> Self:
        try:
            for number in range(2):
                await self._simulator(number)
            config = self._scratch / "headrace.toml"
            config.write_text(_EDGE + "".join(self._backend(number) for number in range(2)))
            ready = self._scratch / "ready.json"
            options = ["--config", str(config), "--port-base", "0", "--ready-file", str(ready)]
            gateway = self._launched.start("headrace", "up", *options)
            await self._launched.until(lambda: self._serves(ready), gateway)
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._launched.stop_all()

    def _backend(self, number: int) -> str:
        url = f"http://127.0.0.1:{self._ports[number]}"
        return f'\n[[backends]]\nname = "sim-{number}"\nengine = "vllm"\nurl = "{url}"\nsimulated = true\n'

    async def _simulator(self, number: int) -> None:
        config = self._scratch / f"sim-{number}.toml"
        config.write_text(f'[simulator]\nmodels = ["{MODEL}"]\nttft_ms = 20.0\nitl_ms = 10.0\n')
        port = str(self._ports[number])
        options = ["--config", str(config), "--port", port]
        simulator = self._simulators[number] = self._launched.start(f"sim-{number}", "simulate", *options)
        url = f"http://127.0.0.1:{port}"
        await self._launched.until(lambda: answers(url, "/health", 1.0), simulator)

    async def kill(self, number: int) -> None:
        """Kill a simulator in the middle of its work and start it anew."""
        child = self._simulators.pop(number, None)
        if child is not None:
            os.kill(child.pid, signal.SIGKILL)
            await self._launched.stop(child)
            self.kills += 1
        await asyncio.sleep(1.0)
        await self._simulator(number)

    def _serves(self, ready: Path) -> bool:
        edge = next((one for name, one in services(ready).items() if name.startswith("edge")), None)
        if edge is None or edge.pid is None or edge.url is None or edge.ops_url is None:
            return False
        self.url, self.ops_url, self.edge_pid = edge.url, edge.ops_url, edge.pid
        return answers(edge.ops_url, "/readyz", 1.0) and answers(edge.url, f"/v1/models/{MODEL}", 1.0)
