"""One request on its way through a queue: checked when it comes, its numbers read on the worker's thread."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from core_gpu.inference.encodings import Array
from core_gpu.inference.runner import Runner
from streamkit.wire.errors import Code, HeadraceError

__all__ = ["Done", "Job", "run_batch", "sized", "wrong"]


@dataclass(frozen=True, slots=True)
class Done:
    """What came of a job.

    Args:
        outputs: encoded, one for each of the batch.
        run_ms: of the run.
        queue_ms: before it.
        worker: who ran it.
    """

    outputs: list[bytes]
    run_ms: float
    queue_ms: float
    worker: int


@dataclass(eq=False, slots=True, kw_only=True)
class Job(ABC):
    """A request that can run.

    Args:
        runner: its model, kept loaded by whoever made the job.
        size: of its batch.
        arrived_s: monotonic.
        answer: set once.
    """

    runner: Runner
    size: int
    arrived_s: float
    answer: asyncio.Future[Done]
    #: Set on the worker's thread: why this job alone failed.
    problem: HeadraceError | None = field(default=None)

    @abstractmethod
    def read(self) -> Sequence[Array] | None:
        """Return an array for each of the model's inputs, or None with `problem` set."""

    @abstractmethod
    def packed(self, out: Array) -> list[bytes]:
        """Return the job's part of a run's output as it travels."""


def run_batch(jobs: Sequence[Job]) -> list[list[bytes]]:
    """Run jobs of one model together, on this thread; a job with a `problem` gets an empty list."""
    read = [(job, arrays) for job in jobs if (arrays := job.read()) is not None]
    if not read:
        return [[] for _ in jobs]
    if len(read) == 1:
        given = read[0][1]
    else:
        given = [np.concatenate(parts) for parts in zip(*(arrays for _, arrays in read), strict=True)]
    out = jobs[0].runner.run(*given)
    found: dict[int, list[bytes]] = {}
    at = 0
    for job, _ in read:
        found[id(job)] = job.packed(out[at : at + job.size])
        at += job.size
    return [found.get(id(job), []) for job in jobs]


def sized(name: str, data: bytes, size: int, shape: tuple[int, ...], number: str = "float32") -> None:
    """Return if `data` is `size` times `shape` of the number named.

    Raises:
        HeadraceError: it is not; the message has both sizes.
    """
    wanted = size * int(np.prod(shape)) * np.dtype(number).itemsize
    if len(data) != wanted:
        told = " x ".join(map(str, (size, *shape)))
        raise wrong(name, f"expected {wanted} bytes ({told} {number}), got {len(data)}")


def wrong(name: str, what: str) -> HeadraceError:
    """Return the error of a field of a request."""
    return HeadraceError(Code.INVALID_REQUEST, f"{name}: {what}", param=name)
