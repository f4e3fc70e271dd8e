"""What `Stream.feed` costs, beside another checkout of this repository, in turns and as a ratio.

    python -m tests.bench.feed ../before        # a worktree of the commit to compare with

Each turn is a process of its own; CPU time, so that neighbours on the machine disturb less. The writer and the clock
are left out: what is measured is the bookkeeping that a token pays for.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]
CALLS = 100_000
ROUNDS = 15
TURNS = 5


async def _measure() -> float:
    """Return the median nanoseconds of one call."""
    from edge.streams.meters import StreamMeters
    from edge.streams.stream import Stream, StreamTimings
    from streamkit.ops.metrics import Metrics

    never = StreamTimings(heartbeat_s=1e6, commit_after_s=1e6, slow_reader_s=1e6)
    meters = StreamMeters(Metrics(), "chat", "m")
    loop = asyncio.get_running_loop()
    stream = Stream(loop=loop, request_id="r", streaming=True, timings=never, meters=meters)
    stream._write = lambda _: True
    feed = stream.feed
    feed(b"x", 1, 1.0)

    def fed() -> None:
        now = 1.0
        for _ in range(CALLS):
            now += 0.02
            feed(b"x", 1, now)

    def empty() -> None:
        now = 1.0
        for _ in range(CALLS):
            now += 0.02

    taken = []
    for _ in range(ROUNDS):
        begun = time.process_time()
        fed()
        between = time.process_time()
        empty()
        taken.append((2 * between - begun - time.process_time()) / CALLS * 1e9)
    stream.finish()
    return statistics.median(taken)


def _in(checkout: Path) -> float:
    line = [sys.executable, str(Path(__file__).resolve()), "--here"]
    done = subprocess.run(line, cwd=checkout, env={"PYTHONPATH": str(checkout)}, capture_output=True, check=True)
    return float(done.stdout)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.feed", description=__doc__)
    parser.add_argument("other", nargs="?", type=Path, help="another checkout")
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.here or options.other is None:
        print(f"{asyncio.run(_measure()):.1f}")
        return
    ratios = []
    for _ in range(TURNS):
        theirs, ours = _in(options.other.resolve()), _in(ROOT)
        ratios.append(ours / theirs)
        print(f"there {theirs:.0f} ns, here {ours:.0f} ns: ratio {ratios[-1]:.3f}")
    print(f"ratio {statistics.median(ratios):.3f}, {min(ratios):.3f} to {max(ratios):.3f}")


if __name__ == "__main__":
    main()
