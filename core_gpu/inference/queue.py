"""A device's bounded line of jobs and the workers that take them, several of one model at a time."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from core_gpu.inference.job import Done, Job, run_batch
from core_gpu.lease_client import is_out_of_memory
from streamkit.ops import log
from streamkit.wire.errors import Code, HeadraceError

__all__ = ["JobQueue"]

_log = logging.getLogger(__name__)
#: What a caller is told to wait when the line is full: about one run.
_RETRY_MS = 50


class JobQueue:
    """One device's line. Everything but the runs happens on the event loop.

    Args:
        gpu: the device's index.
        workers: runs at a time.
        first_worker: number of the first one, over all devices.
        limit: jobs that may wait.
        max_batch: frames in a run.
        wait_s: how long a run may wait for more jobs of its model.
        on_run: told of each run: jobs, frames, seconds.
    """

    def __init__(
        self,
        gpu: int,
        *,
        workers: int,
        first_worker: int,
        limit: int,
        max_batch: int,
        wait_s: float,
        on_run: Callable[[list[Job], float], None],
    ) -> None:
        self.gpu = gpu
        self.workers = workers
        self.running = 0
        self._first = first_worker
        self._limit = limit
        self._max_batch = max_batch
        self._wait_s = wait_s
        self._on_run = on_run
        self._jobs: deque[Job] = deque()
        self._arrived = asyncio.Event()
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix=f"gpu{gpu}")
        self._tasks: list[asyncio.Task[None]] = []

    def __len__(self) -> int:
        return len(self._jobs)

    def start(self) -> None:
        """Start the workers."""
        self._tasks = [
            asyncio.create_task(self._work(self._first + at), name=f"gpu{self.gpu} worker {at}")
            for at in range(self.workers)
        ]

    async def stop(self) -> None:
        """End the workers; runs under way finish, jobs that wait are refused."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        while self._jobs:
            _fail(self._jobs.popleft(), HeadraceError(Code.DRAINING, "the inference server is stopping"))
        await asyncio.get_running_loop().run_in_executor(None, self._pool.shutdown)

    async def submit(self, job: Job) -> Done:
        """Run a job, after those that came before it.

        Raises:
            HeadraceError: SATURATED, or what was wrong with it or its run.
        """
        if len(self._jobs) >= self._limit:
            raise HeadraceError(
                Code.SATURATED,
                f"GPU {self.gpu} has {len(self._jobs)} requests waiting (queue_size {self._limit})",
                retry_after_ms=_RETRY_MS,
            )
        self._jobs.append(job)
        arrived, self._arrived = self._arrived, asyncio.Event()
        arrived.set()
        try:
            return await asyncio.shield(job.answer)
        except asyncio.CancelledError:
            if job in self._jobs:
                # Its caller left: nobody runs it for nothing.
                self._jobs.remove(job)
            else:
                # It runs: its model and its bytes are in use until that is over.
                await asyncio.wait([job.answer])
                job.answer.exception()
            raise

    async def _work(self, worker: int) -> None:
        loop = asyncio.get_running_loop()
        while True:
            while not self._jobs:
                await self._arrived.wait()
            jobs = await self._batch()
            self.running += 1
            begun = time.monotonic()
            # A cancelled worker still owes its callers an answer.
            run = loop.run_in_executor(self._pool, run_batch, jobs)
            try:
                await asyncio.wait([run])
            except asyncio.CancelledError:
                await asyncio.wait([run])
                raise
            finally:
                self.running -= 1
                self._settle(jobs, run, begun, worker)

    async def _batch(self) -> list[Job]:
        """Take the oldest job, and others of its model for as long as nothing else waits."""
        jobs: list[Job] = []
        first = self._jobs[0]
        until = first.arrived_s + self._wait_s
        frames = self._gather(jobs, first, 0)
        while frames < self._max_batch and not self._jobs and (left := until - time.monotonic()) > 0:
            try:
                async with asyncio.timeout(left):
                    await self._arrived.wait()
            except TimeoutError:
                break
            except asyncio.CancelledError:
                self._jobs.extendleft(reversed(jobs))
                raise
            frames = self._gather(jobs, first, frames)
        return jobs

    def _gather(self, jobs: list[Job], first: Job, frames: int) -> int:
        for job in list(self._jobs):
            if job.runner is first.runner and frames + job.size <= self._max_batch:
                self._jobs.remove(job)
                jobs.append(job)
                frames += job.size
        return frames

    def _settle(self, jobs: list[Job], run: asyncio.Future[list[list[bytes]]], begun: float, worker: int) -> None:
        took = time.monotonic() - begun
        self._on_run(jobs, took)
        error = run.exception()
        if error is not None:
            log.event(_log, "inference.run_failed", level=logging.WARNING, model=jobs[0].runner.name, why=str(error))
            code = Code.OUT_OF_MEMORY if isinstance(error, Exception) and is_out_of_memory(error) else Code.INTERNAL
            for job in jobs:
                _fail(job, HeadraceError(code, f"model {job.runner.name}: the run failed: {error}"))
            return
        for job, outputs in zip(jobs, run.result(), strict=True):
            if job.problem is not None:
                _fail(job, job.problem)
            elif not job.answer.done():
                queued = max(0.0, begun - job.arrived_s)
                job.answer.set_result(Done(outputs, took * 1000, queued * 1000, worker))


def _fail(job: Job, error: HeadraceError) -> None:
    if not job.answer.done():
        job.answer.set_exception(error)
