"""`python -m simulator.compositor`: a simulated compositor until it is told to stop."""

from __future__ import annotations

import argparse
import asyncio
import signal
from pathlib import Path

from simulator.compositor.script import Script
from simulator.compositor.server import serving
from simulator.ready import announce


def main() -> None:
    """Serve until SIGTERM or SIGINT."""
    parser = argparse.ArgumentParser(prog="python -m simulator.compositor", description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    parser.add_argument("--ready-file", type=Path, help="written once it serves: its url")
    parser.add_argument("--ms-per-char", type=float, default=Script().ms_per_char, help="speech takes so long")
    asyncio.run(_serve(parser.parse_args()))


async def _serve(options: argparse.Namespace) -> None:
    over = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, over.set)
    async with serving(Script(ms_per_char=options.ms_per_char), port=options.port) as (_, url):
        if options.ready_file:
            announce(options.ready_file, {"url": url})
        await over.wait()


if __name__ == "__main__":
    main()
