"""When the allocator has no more: give the lease back and try again, smaller or at lower precision.

An estimate can be wrong, and memory that no lease knows of can be in the way; then the allocator says so, not the
arbiter. What to try next is the holder's policy.
"""

from __future__ import annotations

import gc
import traceback
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Final, TypeVar

from core_gpu.lease_client.aio import AsyncLease, AsyncLeaseClient
from core_gpu.lease_client.sync import Lease, LeaseClient
from core_gpu.lease_client.words import LeaseAsk

__all__ = ["is_out_of_memory", "run_leased", "run_leased_async", "steps"]

T = TypeVar("T")
#: Gets what was tried, how often anything was tried, and the error; returns what to try next, or None to give up.
OnOom = Callable[[LeaseAsk, int, Exception], LeaseAsk | None]

#: torch.cuda.OutOfMemoryError, torch.OutOfMemoryError; tensorflow.errors.ResourceExhaustedError; cupy's.
_NAMES: Final = frozenset({"OutOfMemoryError", "ResourceExhaustedError"})
#: onnxruntime raises one class for everything, and cuBLAS and cuDNN name the step that failed.
_PHRASES: Final = (
    "out of memory",
    "failed to allocate memory",
    "available memory of",
    "cublas_status_alloc_failed",
    "cudnn_status_alloc_failed",
)


def is_out_of_memory(error: Exception) -> bool:
    """Say whether an error is an allocator's way of saying that memory is used up, whatever library raised it."""
    if isinstance(error, MemoryError) or any(kind.__name__ in _NAMES for kind in type(error).__mro__):
        return True
    text = str(error).lower()
    return any(phrase in text for phrase in _PHRASES)


def steps(*smaller: tuple[int, str]) -> OnOom:
    """Return a policy that goes through (MiB, precision) one after the other, then gives up."""

    def policy(tried: LeaseAsk, attempt: int, _error: Exception) -> LeaseAsk | None:
        if attempt > len(smaller):
            return None
        mb, precision = smaller[attempt - 1]
        return replace(tried, mb=mb, precision=precision)

    return policy


def run_leased(
    client: LeaseClient,
    ask: LeaseAsk,
    work: Callable[[Lease, LeaseAsk], T],
    *,
    on_oom: OnOom,
    is_oom: Callable[[Exception], bool] = is_out_of_memory,
) -> T:
    """Do `work` under a lease; when the allocator runs out, give the lease back and ask `on_oom` what to try.

    Args:
        client: whom to ask.
        ask: the first try.
        work: loads and runs; gets the lease and what was asked for.
        on_oom: the holder's policy.
        is_oom: which errors mean that memory is used up.

    Raises:
        LeaseRefused: a try got no lease.
        Exception: the last out-of-memory error when the policy gives up, and every other error of `work`.
    """
    attempt = 0
    while True:
        attempt += 1
        with client.acquire(ask) as lease:
            try:
                return work(lease, ask)
            except Exception as error:
                smaller = on_oom(ask, attempt, error) if is_oom(error) else None
                if smaller is None:
                    raise
                _let_go(error)
        ask = smaller


async def run_leased_async(
    client: AsyncLeaseClient,
    ask: LeaseAsk,
    work: Callable[[AsyncLease, LeaseAsk], Awaitable[T]],
    *,
    on_oom: OnOom,
    is_oom: Callable[[Exception], bool] = is_out_of_memory,
) -> T:
    """Do the same within an event loop; see `run_leased`."""
    attempt = 0
    while True:
        attempt += 1
        async with await client.acquire(ask) as lease:
            try:
                return await work(lease, ask)
            except Exception as error:
                smaller = on_oom(ask, attempt, error) if is_oom(error) else None
                if smaller is None:
                    raise
                _let_go(error)
        ask = smaller


def _let_go(error: Exception) -> None:
    """Drop what the failed try still holds, before its lease goes back: a traceback keeps every tensor alive."""
    seen: BaseException | None = error
    while seen is not None:
        traceback.clear_frames(seen.__traceback__)
        seen = seen.__cause__ or seen.__context__
    gc.collect()
