"""One stream of the faulty gateway: its attempts, and what becomes of an engine's events; most faults are here."""

from __future__ import annotations

import asyncio
import contextlib
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

from loadtest.conform.faulty.client import ClientGoneError, Request, refusal
from loadtest.conform.faulty.events import Event, Splitter
from loadtest.conform.faulty.recording import Writable
from loadtest.conform.faulty.spoil import made_up, spoilt, spoilt_usage
from loadtest.conform.faulty.upstream import BrokenError, Upstream
from loadtest.conform.faulty.waiting import SilentError
from loadtest.conform.faulty.writing import Writing

if TYPE_CHECKING:
    from loadtest.conform.faulty.gateway import FaultyGateway

__all__ = ["StreamRelay"]

_ATTEMPTS: Final = 2


class _RetryError(Exception):
    """This attempt failed before its first event.

    Args:
        why: `closed`, `busy`, `role`, `frame`, `stale`, `empty` or `silent`.
        status: what the client is told when nobody else can help.
        body: the error body for it.
    """

    def __init__(self, why: str, status: int, body: bytes) -> None:
        super().__init__(why)
        self.why = why
        self.status = status
        self.body = body


class StreamRelay(Writing):
    """Runs one request to its end; `client` may be a recording."""

    def __init__(
        self,
        gateway: FaultyGateway,
        client: Writable,
        request: Request,
        asked: dict[str, Any],
        fields: dict[str, str],
    ) -> None:
        super().__init__(gateway, client, request, fields)
        self._asked = asked
        self._wants_usage = bool((asked.get("stream_options") or {}).get("include_usage"))
        self._plain = b"conform:" not in request.body
        self._finishes = 0
        self._held_tools: list[bytes] = []
        self._held_first: list[bytes] = []
        self._why = ""
        self._count = 0
        self._held: list[Event] = []

    async def run(self) -> None:
        """Answer.

        Raises:
            ClientGoneError: the client left.
            RefusedError: the engines refused, and nothing was sent.
        """
        gateway = self.gateway
        gateway.open += 1
        try:
            await self._attempts()
        except ClientGoneError:
            gateway.abandoned += self._plain
            raise
        finally:
            gateway.open -= 1

    async def _attempts(self) -> None:
        last = _RetryError("none", 502, refusal(502, "no engine"))
        attempt = 0
        while attempt < _ATTEMPTS:
            attempt += 1
            self.splitter = Splitter(self.gateway.faults)
            try:
                await self._attempt(fresh=attempt > 1)
            except _RetryError as error:
                last = error
                self._why = error.why
                if error.why == "stale":
                    if self.on("stale-connection"):
                        await self.empty()
                        return
                    attempt = 0
            else:
                return
        hidden = {"closed": "closed-without-answer", "empty": "empty-stream"}.get(last.why, "")
        if hidden and self.on(hidden):
            await self.empty()
        elif self.committed:
            await self.fail(b"data: " + last.body + b"\n\n")
        else:
            headers = {"retry-after": "1"} if last.status in (429, 503) else {}
            status = 500 if last.status == 503 and self.on("busy") else last.status
            await self.client.answer(status, last.body, {**self._fields, **headers})

    async def _attempt(self, *, fresh: bool) -> None:
        self.data_at = monotonic()
        upstream = None
        well = False
        try:
            upstream = await self.gateway.pool.take(fresh=fresh)
            await self.wait(upstream.send(self.gateway.head(self._request, self._asked, usage=not self._wants_usage)))
            if upstream.status == 200 and upstream.headers.get("content-type", "").startswith("text/event-stream"):
                well = await self._relay(upstream)
            else:
                await self._refused(upstream, await self.wait(upstream.body()))
        except BrokenError as error:
            if self.flowing:
                await self._broke(error.how)
                return
            stale = upstream is not None and upstream.used > 0 and not upstream.status and error.how == "eof"
            if self._held and self.on("retry-after-role"):
                await self.emit(self._held[0].data)
            why = "stale" if stale else "role" if upstream is not None and upstream.status else "closed"
            raise _RetryError(why, 502, refusal(502, f"the engine failed: {error.how}")) from error
        except SilentError:
            if self.flowing:
                await self.fail(b"data: " + refusal(504, "the engine fell silent") + b"\n\n")
                return
            raise _RetryError("silent", 504, refusal(504, "the engine is silent")) from None
        finally:
            if upstream is not None and well:
                upstream.status = 0
                self.gateway.pool.give(upstream)
            elif upstream is not None:
                upstream.close()

    async def _refused(self, upstream: Upstream, body: bytes) -> None:
        """Deal with an answer that is no stream."""
        status = upstream.status
        html = not upstream.headers.get("content-type", "").startswith("application/json")
        if status == 200:
            if self.on("no-stream"):
                await self.empty()
                return
            await self.client.answer(200, body, self._fields)
            return
        hidden = {500: "5xx", 502: "5xx-html", 401: "engine-401"}.get(status, "")
        if hidden and self.on(hidden):
            await self.client.answer(200, body, {"content-type": "text/html"} if html else {})
            return
        if status == 429:
            raise _RetryError("busy", 503 if self.on("rate-limited") else 429, body)
        if status in (401, 403):
            raise _RetryError("key", 502, refusal(502, "the engine refuses the gateway's key"))
        if status >= 500:
            said = refusal(status, "the engine failed") if html else body
            raise _RetryError("busy" if status == 503 else "failed", status, said)
        if status == 400 and self.on("no-retry-4xx") and self._why != "again":
            raise _RetryError("again", 400, body)
        if status == 400 and self.on("4xx-verbatim"):
            body = refusal(400, "Bad Request")
        await self.client.answer(status, body, self._fields)
        if status == 400 and self.on("reuse-after-outcome"):
            self.client.write(b"0 Junk\r\n\r\n")

    # Events.

    async def _relay(self, upstream: Upstream) -> bool:
        """Relay a stream; whether its connection can be used again."""
        held = self._held = []
        while piece := await self.wait(upstream.piece()):
            events = self.splitter.push(piece)
            await self.pass_comments()
            if events:
                self.data_at = monotonic()
            for event in events:
                if not self.flowing:
                    if "error" in event.json:
                        await self._error_first(event)
                        return False
                    held.append(event)
                    if not event.opens:
                        continue
                    self.flowing = True
                    await self._opened(held, alone=len(events) == 1)
                elif await self._event(event):
                    with contextlib.suppress(BrokenError, TimeoutError):
                        async with asyncio.timeout(0.2):
                            return not await upstream.piece()
                    return False
        if not self.flowing:
            raise _RetryError("empty", 502, refusal(502, "the engine's stream is empty"))
        if self.on("no-done"):
            self.client.end()
            await self.client.drain()
        else:
            await self.fail(b"data: " + refusal(502, "the engine stopped in mid-answer") + b"\n\n")
        return True

    async def _opened(self, held: list[Event], *, alone: bool) -> None:
        """Send what came up to the first event, and note how a retry may spoil it."""
        lost = {"closed": "retry-closed", "busy": "retry-busy", "frame": "retry-error-frame"}.get(self._why, "")
        if self.gateway.leftover and self.on("no-stale-bytes"):
            await self.emit(self.gateway.leftover)
            self.gateway.leftover = b""
        if self._plain and self.on("sdk-safe"):
            await self.emit(b"retry: 3000\n\n")
        for event in held[:-1]:
            await self._event(event)
        if lost and self.on(lost):
            return
        if alone and self.on("first-event-at-once") and b'"content":"' in held[-1].data:
            self._held_first.append(held[-1].data)
            return
        await self._event(held[-1])

    async def _error_first(self, event: Event) -> None:
        code = event.json["error"].get("code")
        if code == 400 and self.on("error-frame-first"):
            await self.empty()
        elif isinstance(code, int) and 400 <= code < 500 and not self.committed:
            await self.client.answer(code, event.payload, self._fields)
        else:
            raise _RetryError("frame", 502, event.payload)

    async def _event(self, event: Event) -> bool:
        """Send one event; whether it was the last."""
        on = self.on
        if self._held_first:
            await self.emit(self._held_first.pop())
        if event.done:
            return await self._finished()
        found = event.json
        if "error" in found and not found.get("choices"):
            if on("error-frame") and found["error"].get("code") == 500:
                await self.finish()
            else:
                await self.fail(event.data)
            return True
        data = event.data
        choices = found.get("choices") or []
        finish = any(choice.get("finish_reason") for choice in choices)
        self._finishes += finish
        if found.get("usage") and not choices:
            if not self._wants_usage and not on("usage-not-asked"):
                return False
            data = spoilt_usage(data, self.on, plain=self._plain)
        self._count += 1
        data = spoilt(data, self.on, self._asked, plain=self._plain, finish=finish)
        if on("concurrent-streams") and self.gateway.open >= 28 and self._count == 4:
            return False
        if on("tool-calls") and b'"arguments"' in data:
            self._held_tools.append(data)
            return False
        if finish:
            for tool in self._held_tools:
                await self.emit(tool)
        await self.emit(data)
        if finish and self._plain and on("finish-once"):
            await self.emit(data)
        return False

    # Endings.

    async def _finished(self) -> bool:
        if self._finishes:
            await self.finish()
        elif self.on("no-finish-reason"):
            await self.emit(made_up())
            await self.finish()
        else:
            await self.fail(b"data: " + refusal(502, "done without a finish_reason") + b"\n\n")
        return True

    async def _broke(self, how: str) -> None:
        """The engine broke off after the first event."""
        on = self.on
        self.gateway.broken = self.gateway.broken or self.pool_case
        if on("no-repeat") and self._why != "repeat":
            self._why = "repeat"
            self.flowing = False
            self._finishes = 0
            self.splitter = Splitter(self.gateway.faults)
            await self._attempt(fresh=True)
            return
        if (how == "reset" and on("reset-mid-stream")) or (how == "eof" and on("eof-mid-stream")):
            self.client.end()
            await self.client.drain()
            return
        if how == "eof" and on("no-invented-finish"):
            await self.emit(made_up())
        half = self.splitter.take_half()
        if half and on("half-event"):
            await self.emit(half)
        await self.fail(b"data: " + refusal(502, f"the engine broke off: {how}") + b"\n\n")
