"""The simulator as a process: what `headrace up` and `headrace simulate` start."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from simulator.ready import announce
from simulator.server import Simulator, serve
from simulator.settings import SimulatorSettings

if sys.platform != "win32":
    import uvloop

__all__ = ["main"]


def main(settings: SimulatorSettings, ready_file: str | None) -> int:
    """Serve until SIGINT or SIGTERM; return the exit status.

    Args:
        settings: of the simulator.
        ready_file: where to say that connections are taken: `{"name", "url", "ops_url", "pid", "kind"}` as JSON,
            written whole or not at all.

    Returns:
        0 after a signal, 1 when the address cannot be listened on.
    """

    def ready(simulator: Simulator) -> None:
        if ready_file is not None:
            _announce(Path(ready_file), settings, simulator)

    async def run() -> None:
        await serve(settings, ready=ready)

    try:
        if sys.platform == "win32":
            asyncio.run(run())
        else:
            uvloop.run(run())
    except OSError as error:
        sys.stderr.write(f"{settings.name}: cannot serve on {settings.host}:{settings.port}: {error}\n")
        return 1
    return 0


def _announce(path: Path, settings: SimulatorSettings, simulator: Simulator) -> None:
    urls = {"url": simulator.backend_url, "ops_url": simulator.url}
    announce(path, {"name": settings.name, **urls, "kind": "simulated"})
