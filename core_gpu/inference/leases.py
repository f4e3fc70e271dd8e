"""Memory that a model may take: from the arbiter for a GPU, from the server's own books for a CPU.

The arbiter lends GPU memory only. On a CPU nothing else competes for a model's memory by lease, so a local lease is
this server's own account of its devices: the same refusal when it is full, and the same counter back at zero.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from core_gpu.gpu_session import UsesGpu
from core_gpu.lease_client import AsyncLeaseClient, LeaseAsk, LeaseError
from streamkit.wire.errors import Code, HeadraceError

__all__ = ["ArbiterLeases", "Leases", "LocalLeases", "ModelLease"]


class ModelLease(UsesGpu, Protocol):
    """A lease of either kind."""

    async def release(self) -> None:
        """Give the memory back; once more does nothing."""
        ...


class Leases(Protocol):
    """Who lends memory."""

    async def acquire(self, model: str, gpu: int, mb: int, on_lost: Callable[[str], None]) -> ModelLease:
        """Return a lease.

        Raises:
            HeadraceError: OUT_OF_MEMORY, with what was said.
        """
        ...

    async def close(self) -> None:
        """Let go of whoever is asked."""
        ...


class LocalLeases:
    """The server's own books.

    Args:
        mb_per_gpu: MiB of each device.
        gpus: how many there are.
    """

    def __init__(self, mb_per_gpu: int, gpus: int) -> None:
        self.lent_mb = [0] * gpus
        self._mb = mb_per_gpu

    async def acquire(self, model: str, gpu: int, mb: int, on_lost: Callable[[str], None]) -> ModelLease:
        """Return a lease, or refuse."""
        free = self._mb - self.lent_mb[gpu]
        if mb > free:
            raise HeadraceError(
                Code.OUT_OF_MEMORY, f"model {model} needs {mb} MiB on GPU {gpu}, of which {free} MiB are free"
            )
        self.lent_mb[gpu] += mb
        return _LocalLease(self, gpu, mb)

    async def close(self) -> None:
        """Do nothing."""


class _LocalLease:
    def __init__(self, books: LocalLeases, gpu: int, mb: int) -> None:
        self._books = books
        self._mb, self._gpu = mb, gpu
        self._held = True

    @property
    def held(self) -> bool:
        return self._held

    @property
    def gpu(self) -> str:
        return f"cpu-{self._gpu}"

    @property
    def gpu_index(self) -> int:
        return self._gpu

    @property
    def mb(self) -> int:
        return self._mb

    async def release(self) -> None:
        if self._held:
            self._held = False
            self._books.lent_mb[self._gpu] -= self._mb


class ArbiterLeases:
    """The arbiter, for GPUs. Untested on a GPU by the project's own suite.

    Args:
        address: `host:port`.
        wait_s: in the arbiter's line.
        priority: 1 (highest) to 9.
    """

    def __init__(self, address: str, wait_s: float, priority: int) -> None:
        self._client = AsyncLeaseClient(address)
        self._wait_s = wait_s
        self._priority = priority

    async def acquire(self, model: str, gpu: int, mb: int, on_lost: Callable[[str], None]) -> ModelLease:
        """Return a lease that may be pre-empted: a notice unloads its model, as a loss does."""
        ask = LeaseAsk(
            "inference", mb, model=model, gpu=str(gpu), wait_s=self._wait_s, priority=self._priority
        )  # fmt: skip
        try:
            return await self._client.acquire(ask, on_notice=lambda notice: on_lost(notice.reason), on_lost=on_lost)
        except LeaseError as error:
            raise HeadraceError(Code.OUT_OF_MEMORY, f"model {model} has no memory: {error}") from None

    async def close(self) -> None:
        """Close the connection; what was not released expires."""
        await self._client.close()
