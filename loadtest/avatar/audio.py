"""What sound costs on its way to a face, measured by the compositor's own program on one core."""

from __future__ import annotations

import os
import subprocess
import sys

import msgspec

from loadtest.launched import SiteError

__all__ = ["First", "Sound", "Step", "sound"]

_TIMEOUT_S = 300.0


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """One step for each second of speech. The blueprint has no figure of its own for any of them."""

    name: str
    #: Median, least and most of the runs.
    ms_per_s: float
    least: float
    most: float
    #: Its share of real time: below 1 keeps up.
    of_real_time: float


class First(msgspec.Struct, frozen=True, kw_only=True):
    """The wait from a text to a voice's first sound, and to its first tick, in milliseconds: median, and the most."""

    voice: str
    samples_ms: float
    samples_most_ms: float
    tick_ms: float
    tick_most_ms: float


class Sound(msgspec.Struct, frozen=True, kw_only=True):
    """Everything."""

    steps: list[Step]
    #: None = no voice is installed.
    first: First | None


def sound(inference: str, *, seconds: float, runs: int, cpu: int) -> Sound:
    """Return what the steps cost.

    Args:
        inference: `host:port` of a server that has the model ave.
        seconds: of speech in a run.
        runs: how many; their medians are returned.
        cpu: the core that it may use.

    Raises:
        SiteError: the program failed; the message is its last line.
    """
    line = [sys.executable, "-m", "compositor.speech.measure", "--seconds", str(seconds), "--runs", str(runs)]
    line += ["--inference", inference]
    found = subprocess.run(  # noqa: S603  our own program
        line, capture_output=True, text=True, check=False, timeout=_TIMEOUT_S,
        preexec_fn=lambda: os.sched_setaffinity(0, {cpu}),
    )  # fmt: skip
    if found.returncode:
        lines = found.stderr.strip().splitlines()
        raise SiteError(f"compositor.speech.measure: {lines[-1] if lines else found.returncode}")
    return msgspec.json.decode(found.stdout, type=Sound)
