"""Chat completions, completions and embeddings: from a request to its stream or its answer."""

from __future__ import annotations

import asyncio
import logging
import re
from time import monotonic
from typing import Any

from edge.endpoints.access import Caller
from edge.endpoints.parts import Parts
from edge.protocol.request import Call, Operation, parse
from edge.protocol.states import StreamState
from edge.relay.relay import Relay
from edge.routing.order import preference
from edge.streams.stream import Stream
from edge.transports.http import Header, Receive, Scope, Send, header, read_body
from edge.transports.sse import deliver
from streamkit.ops import catalog, log
from streamkit.wire.errors import Code, HeadraceError
from streamkit.wire.route import RouteAnswer, RouteRequest

__all__ = ["serve_completion"]

_LOG = logging.getLogger("headrace.edge.stream")
_JSON = re.compile(rb"application/(?:[\w.+-]*\+)?json\s*(?:;|$)", re.IGNORECASE)
_SESSION = re.compile(r"[\x21-\x7e]{0,256}")
#: How much of a request decides its prefix affinity: the parameters and the head of the first message.
_PREFIX_BYTES = 2048
#: Forwarded to engines as they came: W3C trace context.
_FORWARDED = (b"traceparent", b"tracestate")


async def serve_completion(
    parts: Parts, operation: Operation, request_id: str, scope: Scope, receive: Receive, send: Send
) -> None:
    """Serve one request to its end.

    Raises:
        HeadraceError: refused before a backend was asked; nothing has been sent.
        ClientGoneError: the request never became whole.
    """
    caller = parts.access.check(scope)
    kind = header(scope, b"content-type")
    if _JSON.match(kind) is None:
        # Also what keeps a foreign web page out: a browser asks first (CORS) before it sends this type.
        said = kind.decode("latin-1") or "nothing"
        text = f"Send JSON with `Content-Type: application/json`; this request says {said}."
        raise HeadraceError(Code.UNSUPPORTED_TYPE, text, param="Content-Type")
    session = header(scope, b"x-headrace-session").decode("latin-1")
    if _SESSION.fullmatch(session) is None:
        text = "`X-Headrace-Session` must be at most 256 visible ASCII characters."
        raise HeadraceError(Code.INVALID_REQUEST, text, param="X-Headrace-Session")
    body = await read_body(scope, receive, limit_bytes=parts.max_body_bytes, account=parts.bodies)
    try:
        began = monotonic()
        call = parse(operation, bytes(body))
        answer = await _route(parts, call, caller)
        request = _Request(parts, call, caller, scope, answer, request_id=request_id, session=session, began=began)
        await request.serve(scope, receive, send)
    finally:
        parts.bodies.release(len(body))


async def _route(parts: Parts, call: Call, caller: Caller) -> RouteAnswer:
    """Return control's candidates.

    Raises:
        HeadraceError: a shed answer, or no answer at all.
    """
    request = RouteRequest(
        model=call.model,
        tenant_class=caller.tenant.tenant_class,
        priority_class=caller.priority,
        transport="sse" if call.stream else "json",
    )
    answer = parts.routes.cached(request) or await parts.routes.route(request)
    shed = answer.shed
    if shed is None and answer.candidates:
        return answer
    known = Code.__members__.values()
    code = next((code for code in known if shed is not None and code.value == shed.code), Code.NO_BACKEND)
    message = shed.message if shed is not None else "No backend serves this model now."
    param = "model" if code is Code.MODEL_NOT_FOUND else None
    raise HeadraceError(code, message, param=param, retry_after_ms=shed.retry_after_ms if shed else None)


class _Request:
    """One admitted request: holds its stream and its relay together, and writes the canonical line at the end."""

    __slots__ = ("_began", "_call", "_caller", "_meters", "_parts", "_relay", "_stream")

    def __init__(
        self,
        parts: Parts,
        call: Call,
        caller: Caller,
        scope: Scope,
        answer: RouteAnswer,
        *,
        request_id: str,
        session: str,
        began: float,
    ) -> None:
        self._parts = parts
        self._call = call
        self._caller = caller
        self._began = began
        # The first candidate's name for the model: one that exists, so that labels stay bounded.
        self._meters = parts.meters.of(call.operation.value, answer.candidates[0].model)
        self._stream = Stream(
            loop=asyncio.get_running_loop(),
            request_id=request_id,
            streaming=call.stream,
            timings=parts.timings,
            meters=self._meters,
        )
        self._stream.began = began
        forwarded = [(name, value) for name in _FORWARDED if (value := header(scope, name))]
        self._relay = Relay(
            call=call,
            stream=self._stream,
            candidates=preference(
                answer,
                inflight=parts.backends.inflight,
                session=session,
                prefix=call.body[:_PREFIX_BYTES],
                region=parts.region,
            ),
            backends=parts.backends,
            budget=parts.budget,
            settings=parts.relay,
            metrics=parts.metrics,
            headers=((b"x-request-id", request_id.encode()), *forwarded),
            sim=header(scope, b"x-sim"),
            on_settled=self._settled,
        )

    async def serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the request; returns when the client's side is over, which may be before the upstream's."""
        relay, stream = self._relay, self._stream
        self._parts.streams.opened(self)
        try:
            await deliver(
                stream,
                scope,
                receive,
                send,
                begin=relay.start,
                headers=self._headers,
                high_bytes=self._parts.write_high_bytes,
            )
        finally:
            # Cancelled from outside (a drain's deadline): the upstream must go, too.
            stream.gone()
            relay.check_over()
            stream.close()

    def cut(self) -> None:
        """End it: the drain's deadline is over, or a second signal cut the drain short."""
        text = "The gateway is stopping and could not wait for this answer's end. Ask again."
        self._relay.stop(HeadraceError(Code.DRAINING, text))

    def _headers(self) -> list[Header]:
        headers = [(b"x-request-id", self._stream.request_id.encode())]
        served_by = self._relay.served_by
        if served_by is not None:
            headers.append((b"x-headrace-backend", served_by.name.encode()))
            if served_by.candidate.capabilities.simulated:
                headers.append((b"x-headrace-simulated", b"1"))
        return headers

    def _settled(self, relay: Relay) -> None:
        """Client and upstream are over: count, log, forget."""
        stream, parts = self._stream, self._parts
        now = monotonic()
        outcome = stream.state.value.lower()
        code = stream.error.code.value if stream.error is not None else ""
        first_at = stream.first_event_at
        if stream.state is StreamState.CANCELLED:
            phase = "first_event" if not first_at else "flowing"
            parts.metrics.counter(catalog.DISCONNECTS, phase, "client").value += 1
        self._meters.ended(outcome, code, now - self._began)
        self._meters.events.value += stream.events
        tokens = relay.usage.completion_tokens if relay.usage is not None else None
        if first_at:
            self._meters.longest_gap.observe(stream.longest_gap_s)
            later = (tokens or stream.events) - 1
            if later > 0:
                self._meters.per_token.observe((now - first_at) / later)
        parts.metrics.counter(catalog.PAUSED).value += stream.paused_s
        fields: dict[str, Any] = {
            "request_id": stream.request_id,
            "operation": self._call.operation.value,
            "model": self._call.model,
            "stream": self._call.stream,
            "backend": relay.served_by.name if relay.served_by is not None else None,
            "tenant": self._caller.tenant.name,
            "outcome": outcome,
            "code": code or None,
            "error": stream.error.message if stream.error is not None else None,
            "attempts": relay.attempts,
            "events": stream.events,
            "prompt_tokens": relay.usage.prompt_tokens if relay.usage is not None else None,
            "completion_tokens": tokens,
            "ttft_ms": round((first_at - self._began) * 1000, 2) if first_at else None,
            "longest_gap_ms": round(stream.longest_gap_s * 1000, 2) if first_at else None,
            "paused_ms": round(stream.paused_s * 1000) or None,
            "duration_ms": round((now - self._began) * 1000, 2),
        }
        log.event(_LOG, "stream.end", **fields)
        parts.feed.publish("stream.end", fields)
        parts.streams.closed(self)
