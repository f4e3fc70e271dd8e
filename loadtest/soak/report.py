"""What a long speech was, and whether all of it is good."""

from __future__ import annotations

from typing import Final

import msgspec

from loadtest.relay.runs import Machine
from loadtest.soak.lips import Minute

__all__ = ["DRIFT_MS", "TASKS", "Process", "Report", "judged"]

SCHEMA: Final = "headrace.soak.speech/1"
#: Lips and voice that are further apart have drifted: it is one picture.
DRIFT_MS: Final = 40.0
#: Growth by the fitted line that is the allocator's, whatever the run's length; and how long a line says anything.
_GROWTH_MIB: Final = 8.0
_LINE_S: Final = 300.0
#: Files, and asyncio tasks, that a quiet service may have beyond those it began with.
_FILES: Final = 8
TASKS: Final = 4
#: A voice that pauses after each sentence is still speech without end; one that waits for long is not.
_SPOKEN: Final = 0.9


class Process(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a process."""

    name: str
    #: At the first look, at the end of the warm-up, at the end of the speech, and once all is quiet.
    rss_mib: tuple[float, ...]
    #: By least squares, over the run after its warm-up, which is so long.
    rise_mib: float
    settled_s: float
    #: Of one core, while it spoke.
    cpu_percent: float
    files: tuple[int, int]
    threads: tuple[int, int]
    #: None = it does not say.
    tasks: tuple[int, int] | None


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """Everything."""

    schema: str = SCHEMA
    machine: Machine
    seconds: float
    #: Of the machine, at the end of each minute, over it.
    load: list[float]
    minutes: list[Minute]
    processes: list[Process]
    #: Messages of the edge, by type.
    told: dict[str, int]
    #: Ticks of the compositor, by kind, and those without a picture or a mouth, by why.
    ticks: dict[str, int]
    held: dict[str, float]
    #: Services that were started again.
    restarted: list[str]
    #: Why the viewer could not stay; None = it could.
    lost: str | None


def judged(report: Report) -> list[tuple[bool, str]]:
    """Return what is asked of a speech, each with whether it is so."""
    skew, slip = (
        max((value for row in report.minutes if (value := getattr(row, name)) is not None), key=abs, default=None)
        for name in ("skew_most_ms", "slip_ms")
    )
    failed = report.told.get("playback.failed", 0)
    spoken = report.ticks.get("speaking", 0) / max(1, report.ticks.get("speaking", 0) + report.ticks.get("idle", 0))
    held = {name: value for name, value in report.held.items() if value}
    rows = [
        (report.lost is None, f"the viewer stayed{'' if report.lost is None else f' not: {report.lost}'}"),
        (skew is not None and abs(skew) < DRIFT_MS, f"lips after voice {skew} ms at most, bound {DRIFT_MS:g}"),
        (slip is not None and abs(slip) < DRIFT_MS, f"their clocks slipped by {slip} ms, bound {DRIFT_MS:g}"),
        (failed == 0, f"{report.told.get('playback.finished', 0)} sentences were spoken, {failed} failed"),
        (spoken > _SPOKEN, f"{spoken:.1%} of the ticks spoke"),
        (not report.restarted, f"services started again: {', '.join(report.restarted) or 'none'}"),
        (not held, f"held at the end: {held or 'nothing'}"),
    ]
    for one in report.processes:
        rss = " → ".join(map(str, one.rss_mib))
        if one.settled_s >= _LINE_S:
            grown = f"after warm-up {one.rise_mib:+.1f} (fitted), bound {_GROWTH_MIB:g}"
            rows.append((one.rise_mib <= _GROWTH_MIB, f"{one.name}: RSS {rss} MiB, {grown}"))
        else:
            rows.append((True, f"{one.name}: RSS {rss} MiB; the run is too short to judge growth"))
        files = f"{one.name}: open files {one.files[0]} → {one.files[1]}, bound +{_FILES}"
        rows.append((one.files[1] <= one.files[0] + _FILES, files))
        if one.tasks is not None:
            tasks = f"{one.name}: tasks {one.tasks[0]} → {one.tasks[1]}, bound +{TASKS}"
            rows.append((one.tasks[1] <= one.tasks[0] + TASKS, tasks))
    return rows
