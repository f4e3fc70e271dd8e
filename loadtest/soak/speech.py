"""A face speaks to one viewer without end, in real time: do lips and voice stay together, does anything grow?"""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from pathlib import Path
from time import monotonic
from typing import Final

from loadtest.relay import proc
from loadtest.relay.machine import facts
from loadtest.relay.stats import slope
from loadtest.reported import say
from loadtest.soak.faces import AVATAR, FaceSite
from loadtest.soak.lips import Minute
from loadtest.soak.listener import Listener
from loadtest.soak.report import TASKS, Process, Report, judged
from loadtest.soak.watch import Sample, sample, series

__all__ = ["speech"]

_LOOK_S: Final = 2.0
_MINUTE_S: Final = 60.0
_QUIET_S: Final = 40.0
_MIB: Final = 1 << 20
_WARM_S: Final = 300.0
#: What is nobody's once the viewer has left.
_HELD: Final = frozenset(
    [
        "headrace_avatar_sessions",
        "headrace_avatar_viewers",
        "headrace_streams_open",
        "headrace_sockets_open",
        "headrace_attempts_inflight",
        "headrace_buffered_bytes",
        "headrace_compositor_sessions",
        "headrace_compositor_users",
        "headrace_compositor_renders",
        "headrace_speech_open",
        "headrace_speech_pending_bytes",
        "headrace_inference_streams",
        "headrace_inference_queued",
        "headrace_inference_running",
        "headrace_inference_held_bytes",
    ]
)


class _Watch:
    """The processes of a site, looked at again and again."""

    def __init__(self, site: FaceSite) -> None:
        self._site = site
        self._began = monotonic()
        self.samples: dict[str, list[Sample]] = {}
        self.tasks: dict[str, list[int]] = {}

        self._cpu: dict[str, list[int]] = {}

    def look(self) -> None:
        """Look once. Blocks for some milliseconds."""
        for name, pid in self._site.pids().items():
            try:
                self.samples.setdefault(name, []).append(sample(pid, monotonic() - self._began))
                self._cpu.setdefault(name, []).append(proc.process_cpu_ns(pid) or 0)
            except FileNotFoundError:
                continue  # It has just ended; `FaceSite.restarted` tells of it.

    def ask(self) -> tuple[dict[str, float], Counter[str]]:
        """Return what the services hold, and count. Blocks."""
        held: dict[str, float] = {}
        ticks: Counter[str] = Counter()
        for service, url in self._site.ops_urls().items():
            for name, labels, value in series(url):
                if name in _HELD:
                    held[name] = held.get(name, 0.0) + value
                elif name == "headrace_tasks":
                    self.tasks.setdefault(service, []).append(int(value))
                elif name in ("headrace_compositor_units_total", "headrace_compositor_left_out_total"):
                    ticks[labels.partition('"')[2].rstrip('"')] += int(value)
                elif name == "headrace_compositor_mouthless_total":
                    ticks["mouthless"] += int(value)
        return held, ticks

    def processes(self, warm_s: float, speech: int) -> list[Process]:
        """Return what became of each; its first so many looks were at speech."""
        found = []
        for name, samples in self.samples.items():
            spoke = samples[:speech] or samples
            settled = [one for one in spoke if one.at_s >= spoke[0].at_s + warm_s] or spoke[-1:]
            first, last, marks = samples[0], samples[-1], self.tasks.get(name)
            settled_s = settled[-1].at_s - settled[0].at_s
            cpu_s = (self._cpu[name][len(spoke) - 1] - self._cpu[name][0]) / 1e9
            found.append(
                Process(
                    name=name,
                    rss_mib=tuple(_mib(one.rss_bytes) for one in (first, settled[0], spoke[-1], last)),
                    rise_mib=_mib(slope([(one.at_s, float(one.rss_bytes)) for one in settled]) * settled_s),
                    settled_s=round(settled_s, 1),
                    cpu_percent=round(100 * cpu_s / max(1e-9, spoke[-1].at_s - first.at_s), 1),
                    files=(first.files, last.files),
                    threads=(first.threads, last.threads),
                    tasks=(marks[0], marks[-1]) if marks else None,
                )
            )
        return found


async def speech(minutes: float, folder: Path) -> tuple[Report, bool]:
    """Have a face speak for so long; returns what was seen, and whether all of it is good.

    Raises:
        SiteError: the gateway does not start.
        ListenerError: no viewer gets to it.
    """
    async with FaceSite(folder) as site:
        watch = _Watch(site)
        await asyncio.to_thread(watch.look)
        await asyncio.to_thread(watch.ask)
        said: list[Minute] = []
        load: list[float] = []
        async with Listener(site.edge_url, AVATAR) as listener:
            say(f"{AVATAR} speaks at {site.edge_url} for {minutes:g} min")
            listener.begin()
            _, before = await asyncio.to_thread(watch.ask)
            began = turned = monotonic()
            end = began + 60 * minutes
            while not listener.lost.done() and (now := monotonic()) < end:
                await asyncio.wait({listener.lost}, timeout=min(_LOOK_S, end - now))
                await asyncio.to_thread(watch.look)
                now = monotonic()
                if now - turned >= _MINUTE_S or now >= end:
                    said.append(listener.lips.minute())
                    load.append(round(os.getloadavg()[0], 1))
                    turned = now
                    say(_line(now - began, said[-1], watch, load[-1]))
            lost = listener.lost.result() if listener.lost.done() else None
            seconds = monotonic() - began
            looks = len(watch.samples["edge"])
            _, after = await asyncio.to_thread(watch.ask)
        held = await _quiet(watch)
        await asyncio.to_thread(watch.look)
        report = Report(
            machine=facts(),
            seconds=round(seconds, 1),
            load=load,
            minutes=said,
            processes=watch.processes(min(_WARM_S, seconds / 3), looks),
            told=dict(listener.told),
            ticks=dict(after - before),
            held=held,
            restarted=site.restarted(),
            lost=lost,
        )
    rows = judged(report)
    for good, text in rows:
        say(f"{'✓' if good else '✗'} {text}")
    return report, all(good for good, _ in rows)


async def _quiet(watch: _Watch) -> dict[str, float]:
    """Wait until nothing is held, and no task is left; return what still is when that takes too long."""
    deadline = monotonic() + _QUIET_S
    while True:
        held, _ = await asyncio.to_thread(watch.ask)
        busy = any(held.values()) or any(marks[-1] > marks[0] + TASKS for marks in watch.tasks.values())
        if not busy or monotonic() > deadline:
            return held
        await asyncio.sleep(0.5)


def _line(at_s: float, row: Minute, watch: _Watch, load: float) -> str:
    rss = "  ".join(f"{name} {_mib(samples[-1].rss_bytes)}" for name, samples in watch.samples.items())
    skew = "no report" if row.skew_median_ms is None else f"{row.skew_median_ms:+.1f} (most {row.skew_most_ms:+.1f})"
    return (
        f"{at_s / 60:5.1f} min  lips after voice {skew} ms  clocks slipped {row.slip_ms} ms  {row.pictures} pictures,"
        f" {row.pictures_missing} missing, {row.pictures_late} late  RSS MiB: {rss}  load {load}"
    )


def _mib(size: float) -> float:
    return round(size / _MIB, 1)
