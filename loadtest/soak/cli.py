"""`make soak`: the command line of the soak."""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from typing import Final

import msgspec

from loadtest.conform.http import Target
from loadtest.relay.stats import slope
from loadtest.reported import ended_by_sigterm
from loadtest.soak.listener import ListenerError
from loadtest.soak.load import Load
from loadtest.soak.site import MODEL, Site, SiteError
from loadtest.soak.speech import speech
from loadtest.soak.watch import Gauges, Sample, gauges, growth_bound_bytes, sample
from streamkit.ops.options import new_file

__all__ = ["main"]

_MIB: Final = 1 << 20
_KILL_EVERY_S: Final = 20.0
_QUIET_S: Final = 40.0
#: Files, and asyncio tasks, that a quiet edge may have beyond those it began with.
_FILES: Final = 8
_TASKS: Final = 4
#: The event loop's own pool for blocking calls has at most 32 (name look-ups, static files).
_THREADS: Final = 34


@dataclass(slots=True)
class _Run:
    """What was measured."""

    before: Sample
    tasks_before: int
    samples: list[Sample] = field(default_factory=list)
    after: Sample | None = None
    left: Gauges | None = None


async def _soak(minutes: float, folder: Path) -> int:
    async with Site(folder) as site:
        load = Load(Target(site.url, MODEL))
        began = monotonic()
        run = _Run(sample(site.edge_pid, 0.0), (await asyncio.to_thread(gauges, site.ops_url)).tasks)
        print(f"soaking {site.url} for {minutes:g} min, edge pid {site.edge_pid}", flush=True)
        making = asyncio.create_task(load.run())
        killing = asyncio.create_task(_kill(site))
        said = began
        try:
            while (now := monotonic()) < began + 60 * minutes:
                await asyncio.wait({making, killing}, timeout=1.0, return_when=asyncio.FIRST_COMPLETED)
                for task in (making, killing):
                    if task.done():
                        task.result()
                run.samples.append(sample(site.edge_pid, now - began))
                if now - said > 10:
                    said = now
                    _progress(run.samples[-1], load, site)
        finally:
            making.cancel()
            killing.cancel()
            await asyncio.gather(making, killing, return_exceptions=True)
        run.left = await _quiet(site)
        run.after = sample(site.edge_pid, monotonic() - began)
        return _verdict(run, load, site.kills)


async def _kill(site: Site) -> None:
    while True:
        for number in range(2):
            await asyncio.sleep(_KILL_EVERY_S)
            await site.kill(number)


async def _quiet(site: Site) -> Gauges:
    """Wait until the edge holds nothing; return what it still holds when that takes too long."""
    deadline = monotonic() + _QUIET_S
    while not (found := await asyncio.to_thread(gauges, site.ops_url)).zero and monotonic() < deadline:  # noqa: ASYNC110
        await asyncio.sleep(0.5)
    await asyncio.sleep(5.0)  # Idle connections to engines are given up after 4 s.
    return await asyncio.to_thread(gauges, site.ops_url) if found.zero else found


def _progress(last: Sample, load: Load, site: Site) -> None:
    print(
        f"{last.at_s / 60:5.1f} min  RSS {last.rss_bytes / _MIB:.1f} MiB  {last.files} files  "
        f"{sum(load.truth.seen.values())} requests  {site.kills} kills  {len(load.truth.lies)} lies",
        flush=True,
    )


def _verdict(run: _Run, load: Load, kills: int) -> int:
    assert run.after is not None  # noqa: S101  # Set before.
    assert run.left is not None  # noqa: S101  # Set before.
    seconds = run.samples[-1].at_s if run.samples else 0.0
    settled = [one for one in run.samples if one.at_s >= min(120.0, seconds / 3)]
    span_s = settled[-1].at_s - settled[0].at_s if settled else 0.0
    rise, bound = slope([(one.at_s, float(one.rss_bytes)) for one in settled]) * span_s, growth_bound_bytes(span_s)
    files = run.after.files - run.before.files
    print()
    for outcome, count in sorted(load.truth.seen.items()):
        print(f"  {outcome:32} {count:8}")
    rows = [
        (rise <= bound, f"RSS after warm-up rose by {rise / _MIB:+.1f} MiB (fitted), bound {bound / _MIB:.1f} MiB"),
        (files <= _FILES, f"open files {run.before.files} → {run.after.files}, bound +{_FILES}"),
        (
            run.left.tasks <= run.tasks_before + _TASKS,
            f"asyncio tasks {run.tasks_before} → {run.left.tasks}, bound +{_TASKS}",
        ),
        (run.after.threads <= _THREADS, f"threads {run.before.threads} → {run.after.threads}, bound {_THREADS}"),
        (run.left.zero, f"held at the end: {run.left.held}"),
        (
            not load.truth.lies,
            f"{len(load.truth.lies)} answers were wrong and did not say so {load.truth.lies[:3] or ''}",
        ),
    ]
    print(f"  {kills} simulators killed\n")
    for good, text in rows:
        print(f"{'✓' if good else '✗'} {text}")
    return 0 if all(good for good, _ in rows) else 1


async def _speak(minutes: float, folder: Path, where: Path | None) -> int:
    report, good = await speech(minutes, folder)
    text = msgspec.json.format(msgspec.json.encode(report)).decode()
    print(text)
    if where is not None:
        where.write_text(text + "\n")  # noqa: ASYNC240  nothing else runs any more
    return 0 if good else 1


def main(argv: list[str]) -> int:
    """Soak; 0 = nothing grew, leaked, lied or drifted, 1 = something did, 2 = it could not start."""
    parser = argparse.ArgumentParser(
        prog="python -m loadtest.soak",
        description="Runs mixed load over a gateway, kills its two simulators in turn, and watches the edge."
        " With --speech: has a face speak to one viewer in real time, and watches lips, voice and all processes.",
    )
    parser.add_argument("--minutes", type=float, default=30.0, metavar="N", help="how long (30)")
    parser.add_argument(
        "--speech", action="store_true", help="a face that speaks without end, in place of mixed load"
    )
    parser.add_argument("--json", type=new_file, metavar="FILE", help="with --speech: write the report there too")
    options = parser.parse_args(argv)
    if not 0 < options.minutes <= 10_000:
        parser.error(f"--minutes: expected more than 0 and at most 10,000, got {options.minutes:g}")
    if options.json and not options.speech:
        parser.error("--json goes with --speech")
    with ended_by_sigterm(), tempfile.TemporaryDirectory(prefix="headrace-soak-") as folder:
        try:
            if options.speech:
                return asyncio.run(_speak(options.minutes, Path(folder), options.json))
            return asyncio.run(_soak(options.minutes, Path(folder)))
        except (SiteError, ListenerError) as error:
            print(f"soak: {error}", file=sys.stderr)
            return 2
        except KeyboardInterrupt:
            return 130
