"""`python -m loadtest.live` runs a gateway under load and writes docs/live.svg; run it in the repository's root."""

from __future__ import annotations

import argparse
import asyncio
import os
import tempfile
import time
from pathlib import Path

from loadtest.live.chart import chart, pictures
from loadtest.live.load import Load
from loadtest.live.site import AT_A_TIME, Site

_WINDOW_S = 10


def main() -> None:
    """Run, draw, and say what was seen."""
    parser = argparse.ArgumentParser(prog="python -m loadtest.live", description=__doc__)
    parser.add_argument("--output", type=Path, default=Path("docs/live.svg"), metavar="FILE")
    parser.add_argument("--seconds", type=float, default=45.0, metavar="S", help="of load (45)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="headrace-live-") as folder, Site(Path(folder), whole=False) as site:
        # The first rates have a whole window behind them.
        load = Load(site, seconds=_WINDOW_S + options.seconds)
        begin_s = time.time() + _WINDOW_S
        print(f"{options.seconds:g} s of load on {site.edge} …")
        asyncio.run(load.run())
        end_s = time.time()
        found = list(pictures(site.prometheus, begin_s, end_s, window=f"{_WINDOW_S}s"))
    caption = (
        f"headrace up and {len(load.ttft_s)} streams; a simulated engine that serves {AT_A_TIME} at a time.",
        f"Dashed: {load.burst} more come at once, and wait in line.",
        f"The panels' own queries, asked of a Prometheus that scrapes each second; rates over {_WINDOW_S} s.",
        f"All of it, the clients too, on {len(os.sched_getaffinity(0))} cores: no benchmark.",
    )
    drawn = chart(found, end_s - begin_s, caption, mark_s=load.burst_s - _WINDOW_S)
    options.output.write_text(drawn, encoding="utf-8")
    print(f"wrote {options.output}: {len(load.ttft_s)} streams, {len(load.refused)} refused as meant")


if __name__ == "__main__":
    main()
