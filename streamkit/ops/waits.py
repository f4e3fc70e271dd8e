"""Two ways of waiting: for as long as a block may take, and for the first of several things."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Coroutine
from typing import Any

__all__ = ["deadline", "either"]


@contextlib.asynccontextmanager
async def deadline(milliseconds: float) -> AsyncIterator[None]:
    """Run the block, and end it in silence when the time is over."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(milliseconds / 1000):
            yield


async def either(*waits: Coroutine[Any, Any, Any]) -> None:
    """Return when one of `waits` has returned, or raise what it raised; the others are cancelled."""
    tasks = [asyncio.create_task(wait) for wait in waits]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
