"""The server without its wire: requests in, frames out; one place that owns registry, lines and registered frames."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass

from core_gpu.inference import encodes, mouths
from core_gpu.inference.catalogue import Catalogue
from core_gpu.inference.job import Done, Job
from core_gpu.inference.leases import ArbiterLeases, Leases, LocalLeases
from core_gpu.inference.loaded import Loaded
from core_gpu.inference.meters import Meters
from core_gpu.inference.queue import JobQueue
from core_gpu.inference.registry import Registry
from core_gpu.inference.settings import InferenceSettings
from core_gpu.inference.visuals import VisualStore
from streamkit.flow.budget import Budget
from streamkit.wire.errors import Code, HeadraceError
from streamkit.wire.pb import inference_pb2 as pb

__all__ = ["Answer", "InferenceServer"]

_MIB = 1024 * 1024
_SWEEP_S = 1.0


@dataclass(frozen=True, slots=True)
class Answer:
    """A request's outputs and where they were made."""

    done: Done
    gpu: int
    #: Of one output: [3, height, width] of a mouth, [features] of a window.
    shape: tuple[int, ...]


class InferenceServer:
    """Everything behind the service.

    Args:
        settings: the operator's.
        meters: counts.
    """

    def __init__(self, settings: InferenceSettings, meters: Meters) -> None:
        self.settings = settings
        self.meters = meters
        leases: Leases
        if settings.device == "cuda":
            leases = ArbiterLeases(settings.arbiter, settings.lease_wait_ms / 1000, settings.lease_priority)
        else:
            leases = LocalLeases(settings.memory_mb_per_gpu, settings.gpus)
        self.registry = Registry(settings, Catalogue(settings), leases)
        self.visuals = VisualStore(settings.visuals_mb * _MIB)
        self.budget = Budget(settings.queue_mb * _MIB)
        self.started_s = time.monotonic()
        self.queues = [
            JobQueue(
                gpu,
                workers=settings.workers_per_gpu,
                first_worker=gpu * settings.workers_per_gpu,
                limit=settings.queue_size,
                max_batch=settings.max_batch,
                wait_s=settings.batch_wait_ms / 1000,
                on_run=self._ran,
            )
            for gpu in range(settings.gpus)
        ]
        self._sweeping: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Start the workers and load what is to be there from the start.

        Raises:
            HeadraceError: one of those cannot be loaded.
        """
        for queue in self.queues:
            queue.start()
        self._sweeping = asyncio.create_task(self._sweep(), name="sweep")

    async def preload(self) -> list[str]:
        """Load the models that are to be there from the start; return a line for each that cannot be."""
        problems = []
        for name, model in self.registry.catalogue.models.items():
            if model.preload:
                try:
                    await self.registry.load(name)
                except HeadraceError as error:
                    problems.append(f"{name}: not preloaded: {error.message}")
        return problems

    async def stop(self) -> None:
        """End the workers and unload everything."""
        if self._sweeping is not None:
            self._sweeping.cancel()
            await asyncio.gather(self._sweeping, return_exceptions=True)
        for queue in self.queues:
            await queue.stop()
        await self.registry.close()

    async def infer(self, request: pb.InferBatchRequest) -> Answer:
        """Draw the mouths of one request.

        Raises:
            HeadraceError: what is wrong, with the field and its limit, or that there is no room.
        """

        def job(loaded: Loaded, arrived_s: float) -> Job:
            shape = loaded.runner.mouth()
            visuals = mouths.checked(request, shape, self.visuals, self.settings.max_batch)
            return mouths.MouthJob(
                runner=loaded.runner, request=request, shape=shape, size=request.batch_size or 1, visuals=visuals,
                channels=self.registry.catalogue.entry(request.model_id).channels, arrived_s=arrived_s,
                answer=asyncio.get_running_loop().create_future(),
            )  # fmt: skip

        size_bytes = len(request.visual_frames) + len(request.audio_features)
        return await self._run(request.model_id, size_bytes, job, self.meters.answered)

    async def encode(self, request: pb.EncodeAudioRequest) -> Answer:
        """Make the features of one request.

        Raises:
            HeadraceError: what is wrong, with the field and its limit, or that there is no room.
        """

        def job(loaded: Loaded, arrived_s: float) -> Job:
            shape = loaded.runner.encoder()
            encodes.check(request, shape, self.settings.max_batch)
            return encodes.EncodeJob(
                runner=loaded.runner, request=request, shape=shape, size=request.batch_size or 1, arrived_s=arrived_s,
                answer=asyncio.get_running_loop().create_future(),
            )  # fmt: skip

        return await self._run(request.model_id, len(request.mel), job, self.meters.encoded)

    async def _run(
        self,
        model: str,
        size_bytes: int,
        make: Callable[[Loaded, float], Job],
        count: Callable[[int, float, int], None],
    ) -> Answer:
        """Take a request's bytes into the books, keep its model loaded, and run it in its device's line."""
        arrived_s = time.monotonic()
        account = self.budget.account("requests")
        if not account.reserve(size_bytes):
            raise HeadraceError(
                Code.SATURATED, f"requests of {self.budget.used_bytes} bytes are here (queue_mb)", retry_after_ms=50
            )
        try:
            async with self.registry.use(model) as loaded:
                job = make(loaded, arrived_s)
                gpu = loaded.device.index
                done = await self.queues[gpu].submit(job)
                loaded.record.requests += 1
                loaded.record.frames += job.size
                count(job.size, time.monotonic() - arrived_s, sum(map(len, done.outputs)))
                return Answer(done, gpu, loaded.runner.shape.output)
        except HeadraceError as error:
            self.meters.failed(error.code)
            raise
        finally:
            account.release(size_bytes)

    def _ran(self, jobs: list[Job], seconds: float) -> None:
        record = self.registry.record(jobs[0].runner.name)
        record.runs += 1
        record.run_s += seconds
        self.meters.ran(sum(job.size for job in jobs), seconds)

    async def _sweep(self) -> None:
        pause_s = min(_SWEEP_S, max(0.05, self.settings.idle_timeout_ms / 4000))
        while True:
            await asyncio.sleep(pause_s)
            with contextlib.suppress(HeadraceError):
                await self.registry.sweep()
