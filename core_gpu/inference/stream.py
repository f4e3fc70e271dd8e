"""`InferStream`: requests run at the same time, answers leave in the requests' order, credit bounds both."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

from streamkit.wire.errors import Code, HeadraceError
from streamkit.wire.pb import inference_pb2 as pb

__all__ = ["answers"]

_Infer = Callable[[pb.InferBatchRequest], Awaitable[pb.InferBatchResponse]]
#: A request under way, and the caller's number of it; None = that was the last one.
_Item = tuple[int, asyncio.Task[pb.InferBatchResponse]] | None


async def answers(
    requests: AsyncIterator[pb.InferStreamRequest], infer: _Infer, credit: int
) -> AsyncIterator[pb.InferStreamResponse]:
    """Yield the credit, then each request's answer; whatever still runs when the caller leaves is ended.

    Args:
        requests: as they come.
        infer: answers one; a mistake in it is an answer, too.
        credit: requests that may be unanswered at a time.

    Raises:
        HeadraceError: SATURATED: the caller sent more than it had credit for.
    """
    yield pb.InferStreamResponse(credit=credit)
    # Bounded by the credit: whoever sends more is cut off.
    under_way: asyncio.Queue[_Item] = asyncio.Queue()
    tasks: set[asyncio.Task[pb.InferBatchResponse]] = set()
    open_ = 0

    async def one(request: pb.InferBatchRequest) -> pb.InferBatchResponse:
        return await infer(request)

    async def read() -> None:
        nonlocal open_
        try:
            async for item in requests:
                if open_ >= credit:
                    raise HeadraceError(
                        Code.SATURATED, f"credit: {credit} requests are unanswered, and that is all there may be"
                    )
                open_ += 1
                task = asyncio.create_task(one(item.request), name=f"stream {item.seq}")
                tasks.add(task)
                task.add_done_callback(tasks.discard)
                under_way.put_nowait((item.seq, task))
        finally:
            under_way.put_nowait(None)

    reader = asyncio.create_task(read(), name="stream requests")
    try:
        while (item := await under_way.get()) is not None:
            seq, task = item
            response = await task
            # Before it leaves: the caller may answer it at once with another request.
            open_ -= 1
            yield pb.InferStreamResponse(seq=seq, response=response, credit=1)
        await reader
    finally:
        reader.cancel()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(reader, *tasks, return_exceptions=True)
