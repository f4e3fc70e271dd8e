"""The inference server's figures: counted as they happen, or read at a scrape."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from streamkit.ops import catalog
from streamkit.ops.metrics import Metrics
from streamkit.wire.errors import Code

if TYPE_CHECKING:
    from core_gpu.inference.server import InferenceServer

__all__ = ["Meters", "watch"]

Rows = Iterable[tuple[tuple[str, ...], float]]


class Meters:
    """What is counted.

    Args:
        metrics: where to.
    """

    def __init__(self, metrics: Metrics) -> None:
        self._frames = metrics.counter(catalog.INFERENCE_FRAMES)
        self._bytes = metrics.counter(catalog.INFERENCE_OUTPUT)
        self._requests = metrics.histogram(catalog.INFERENCE_REQUEST)
        self._windows = metrics.counter(catalog.INFERENCE_WINDOWS)
        self._encodes = metrics.histogram(catalog.INFERENCE_ENCODE)
        self._runs = metrics.histogram(catalog.INFERENCE_RUN)
        self._batch = metrics.histogram(catalog.INFERENCE_BATCH)
        self._failed = {code: metrics.counter(catalog.INFERENCE_FAILED, code.value) for code in Code}
        #: Streams that are open.
        self.streams = 0

    def answered(self, frames: int, seconds: float, size_bytes: int) -> None:
        """Count a request that was answered."""
        self._frames.value += frames
        self._bytes.value += size_bytes
        self._requests.observe(seconds)

    def encoded(self, windows: int, seconds: float, size_bytes: int) -> None:
        """Count a request for features that was answered."""
        self._windows.value += windows
        self._encodes.observe(seconds)

    def ran(self, frames: int, seconds: float) -> None:
        """Count a run."""
        self._runs.observe(seconds)
        self._batch.observe(frames)

    def failed(self, code: Code) -> None:
        """Count a request that was refused or failed."""
        self._failed[code].value += 1


def watch(metrics: Metrics, server: InferenceServer) -> None:
    """Show what is loaded, waits and runs."""
    devices = server.registry.devices
    queues = server.queues

    def each(values: Iterable[float]) -> Rows:
        return [((str(at),), float(value)) for at, value in enumerate(values)]

    metrics.watch(catalog.INFERENCE_MODELS, lambda: each(device.models for device in devices))
    metrics.watch(catalog.INFERENCE_MEMORY, lambda: each(device.used_mb * 1024 * 1024 for device in devices))
    metrics.watch(catalog.INFERENCE_QUEUED, lambda: each(len(queue) for queue in queues))
    metrics.watch(catalog.INFERENCE_RUNNING, lambda: each(queue.running for queue in queues))
    metrics.watch(catalog.INFERENCE_HELD, lambda: [((), float(server.budget.used_bytes))])
    metrics.watch(catalog.INFERENCE_VISUALS, lambda: [((), float(server.visuals.used_bytes))])
    metrics.watch(catalog.INFERENCE_STREAMS, lambda: [((), float(server.meters.streams))])
