"""From a stream to its client: status and headers through ASGI, the body through the writer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from edge.server.writer import EXTENSION, Writer
from edge.streams.contracts import Readable
from edge.transports.channel import ChannelOutlet
from edge.transports.http import Header, Receive, Scope, Send, send_reply

__all__ = ["deliver"]

_STREAM_HEADERS: tuple[Header, ...] = (
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),
)


async def deliver(
    stream: Readable,
    scope: Scope,
    receive: Receive,
    send: Send,
    *,
    begin: Callable[[], None],
    headers: Callable[[], list[Header]],
    high_bytes: int,
) -> None:
    """Serve one request to its end; returns when the client's side is over.

    Args:
        stream: what to send.
        scope: the request's ASGI scope.
        receive: ASGI; used only where there is no writer.
        send: ASGI; used for the start and the final message.
        begin: starts the upstream, once a disconnect cannot be missed any more.
        headers: headers of the answer, asked when they are known.
        high_bytes: mark of the fallback's buffer.
    """
    writer = (scope.get("extensions") or {}).get(EXTENSION)
    if isinstance(writer, Writer):
        writer.on_disconnect = stream.gone
        if writer.gone:
            stream.gone()
        else:
            begin()
        await stream.decided()
        if await _started(stream, send, headers):
            stream.attach(writer)
            await stream.ended()
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        return
    outlet = ChannelOutlet(high_bytes)
    outlet.on_disconnect = stream.gone
    async with outlet.watching(receive):
        begin()
        await stream.decided()
        if await _started(stream, send, headers):
            stream.attach(outlet)
            pump = asyncio.create_task(outlet.pump(send))
            try:
                await stream.ended()
                outlet.finish()
                if outlet.aborted:
                    return  # a body that was cut gets no clean end (law 5)
                await pump
            finally:
                pump.cancel()
            await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _started(stream: Readable, send: Send, headers: Callable[[], list[Header]]) -> bool:
    """Send the status line and headers of a stream; or the whole answer, and return False."""
    if stream.reply is not None:
        await send_reply(send, stream.reply, headers())
        return False
    if not stream.committed:
        return False
    await send({"type": "http.response.start", "status": 200, "headers": [*_STREAM_HEADERS, *headers()]})
    return True
