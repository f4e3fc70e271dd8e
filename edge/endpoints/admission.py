"""Admission: from a parsed call to its running stream, whatever transport it came by.

    asked = Asked(request_id=…, caller=…, transport="sse" | "json" | "websocket", …)
    admitted = await admit(parts, call, asked)      # HeadraceError: refused, nothing is held
    try:
        admitted.start()                            # once a disconnect cannot be missed any more
        await admitted.reader.decided()             # then `reply`, or headers and `reader.attach(outlet)`
        await admitted.reader.ended()
    finally:
        admitted.leave()                            # the transport is done with it, for whatever reason

A client that goes away is told to `reader.gone`. Books, the canonical log line and the call's memory are settled
here, once both the client's side and every upstream are over; the transport has nothing to do with that.

With `Asked.window_s` the stream is resumable: `reader` is its first `Reading`, `stream_id` its public name, and a
client that goes away leaves it running. Whoever comes back, over whatever transport, goes to `parts.shelf`:

    kept = parts.shelf.find(stream_id, owner_of(caller))    # HeadraceError NOT_FOUND, GONE; or another `Instance`
    reading = kept.read(after)                              # takes over; deliver it, then `reading.gone()`
    kept.stop()                                             # or end it at once
"""

from __future__ import annotations

import asyncio
import re
from time import monotonic
from urllib.parse import quote

import msgspec

from edge.endpoints.access import Caller
from edge.endpoints.books import settle
from edge.endpoints.limits import Allowance
from edge.endpoints.parts import Parts
from edge.protocol.request import Call, Operation
from edge.protocol.states import StreamState
from edge.relay.relay import Relay
from edge.relay.traced import RequestTrace
from edge.routing.fit import fit
from edge.routing.order import preference
from edge.streams.contracts import Readable
from edge.streams.kept import Kept, Owner
from edge.streams.stream import Stream
from streamkit.wire.errors import Code, HeadraceError
from streamkit.wire.route import RouteAnswer, RouteRequest, Transport

__all__ = ["Admitted", "Asked", "admit", "owner_of", "window_of"]

#: How much of a request decides its prefix affinity: the parameters and the head of the first message.
_PREFIX_BYTES = 2048
_SECONDS = re.compile(r"[0-9]{1,9}")


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a request beside its call."""

    request_id: str
    caller: Caller
    transport: Transport
    #: `monotonic()` when the request was whole.
    began: float
    #: Keeps requests of one session at one backend; see `X-Headrace-Session`.
    session: str = ""
    #: `X-Sim`, for simulators only.
    sim: bytes = b""
    #: Headers that engines get as they came: W3C trace context.
    forwarded: tuple[tuple[bytes, bytes], ...] = ()
    #: Keep the stream for so long while nobody reads it; 0 = it cannot be resumed. See `window_of`.
    window_s: float = 0.0
    #: A probe's backend, see `pin_of`; empty = it is no probe.
    pin: str = ""


def window_of(parts: Parts, text: str, *, stream: bool) -> float:
    """Return the resume window that a client asks for, in seconds.

    Args:
        parts: the edge.
        text: the value of `X-Headrace-Resume`; empty = none.
        stream: an event stream is asked for.

    Raises:
        HeadraceError: INVALID_REQUEST; names the header and the limit.
    """
    if not text:
        return 0.0
    longest = int(parts.shelf.settings.longest_s)
    if not longest:
        said = "is turned off at this gateway (resume_max_ms = 0)."
    elif not stream:
        said = 'is for streams: send it with "stream": true.'
    elif _SECONDS.fullmatch(text) is None or not 1 <= int(text) <= longest:
        said = f"must be whole seconds from 1 to {longest}."
    else:
        return float(text)
    raise HeadraceError(Code.INVALID_REQUEST, f"`X-Headrace-Resume` {said}", param="X-Headrace-Resume")


def owner_of(caller: Caller) -> Owner:
    """Return who may resume what `caller` asks for: the same key of the same tenant."""
    return Owner(caller.tenant.name, caller.key_id)


async def admit(parts: Parts, call: Call, asked: Asked) -> Admitted:
    """Route a call and make its stream; nothing runs before `Admitted.start`.

    Args:
        parts: the edge.
        call: its body is charged to `parts.bodies`; that charge is given back from here, whatever happens.
        asked: who asks, and how.

    Raises:
        HeadraceError: refused before a backend was asked, OVER_QUOTA among it.
    """
    allowance: Allowance | None = None
    try:
        asked.caller.check_model(call.model)
        parts.budgets.check(asked.caller)
        allowance = parts.limits.begin(asked.caller.tenant, call)
        answer = await _route(parts, call, asked)
        return Admitted(parts, call, asked, answer, allowance)
    except BaseException as error:
        if isinstance(error, HeadraceError):
            parts.sheds.tell(parts.feed, error, call, asked)
        if allowance is not None:
            allowance.settle(None, 0)
        parts.bodies.release(len(call.body))
        raise


async def _route(parts: Parts, call: Call, asked: Asked) -> RouteAnswer:
    """Return control's candidates.

    Raises:
        HeadraceError: a shed answer, or no answer at all.
    """
    request = RouteRequest(
        model=call.model,
        tenant_class=asked.caller.tenant.tenant_class,
        priority_class=asked.caller.priority,
        transport=asked.transport,
        backend=asked.pin,
    )
    answer = parts.routes.cached(request) or await parts.routes.route(request)
    shed = answer.shed
    if shed is None and answer.candidates:
        fitting = fit(answer, call.model, predict=call.operation is Operation.PREDICT)
        return fitting if asked.pin else parts.holds.spared(fitting)
    known = Code.__members__.values()
    code = next((code for code in known if shed is not None and code.value == shed.code), Code.NO_BACKEND)
    message = shed.message if shed is not None else "No backend serves this model now."
    param = "model" if code is Code.MODEL_NOT_FOUND else None
    raise HeadraceError(code, message, param=param, retry_after_ms=shed.retry_after_ms if shed else None)


class Admitted:
    """One admitted request: holds its stream and its relay together until both are over. Made by `admit`."""

    __slots__ = (
        "_allowance", "_parts", "_relay", "asked", "call", "kept", "meters", "reader", "routed_at", "stream", "trace",
    )  # fmt: skip

    def __init__(self, parts: Parts, call: Call, asked: Asked, answer: RouteAnswer, allowance: Allowance) -> None:
        self._parts = parts
        self._allowance = allowance
        self.call = call
        self.asked = asked
        # The first candidate's name for the model: one that exists, so that labels stay bounded.
        meters = parts.probe_meters if call.probe else parts.meters
        self.meters = meters.of(call.label, answer.candidates[0].model)
        #: When its candidates were known, in monotonic seconds.
        self.routed_at = monotonic()
        self.stream = Stream(
            loop=asyncio.get_running_loop(),
            request_id=asked.request_id,
            streaming=call.stream,
            timings=parts.timings,
            meters=self.meters,
            kept=asked.window_s > 0,
        )
        self.stream.began = asked.began
        trace = None
        if parts.tracer is not None:
            name = f"{call.operation.value} {self.meters.model}"
            trace = parts.tracer.begin(name, asked.forwarded, asked.began)
        #: Its spans, if it is sampled.
        self.trace = RequestTrace(trace, call.operation.value) if trace is not None else None
        #: The stream's ring and window, if it is resumable.
        self.kept: Kept | None = None
        #: For the transport to deliver.
        self.reader: Readable = self.stream
        after_ms = answer.hedge_after_ms
        self._relay = Relay(
            means=parts.means,
            call=call,
            stream=self.stream,
            candidates=preference(
                answer,
                inflight=parts.backends.inflight,
                session=asked.session,
                prefix=call.body[:_PREFIX_BYTES],
                region=parts.region,
            ),
            priority=asked.caller.priority,
            hedge_after_s=None if after_ms is None else after_ms / 1000,
            headers=((b"x-request-id", asked.request_id.encode()), *asked.forwarded),
            sim=asked.sim,
            trace=self.trace,
            on_settled=self._settled,
        )
        if asked.window_s:
            self.kept = parts.shelf.keep(self.stream, owner_of(asked.caller), asked.window_s)
            self.kept.on_torn = self._relay.stop
            self.reader = self.kept.first()
            self.stream.when_ended(self._relay.check_over)
        parts.streams.opened(self)

    @property
    def stream_id(self) -> str:
        """By which the stream can be resumed; empty = it cannot."""
        return self.kept.stream_id if self.kept is not None else ""

    def start(self) -> None:
        """Begin the first attempt; a resumable stream is owed to the client from then on, so that it gets the id.

        While it waits in the queue nothing is owed yet: what it waited for in vain is a status, not a stream.
        """
        self._relay.start()
        if self.kept is not None:
            self._relay.once_admitted(self.stream.commit)

    def headers(self) -> list[tuple[bytes, bytes]]:
        """Return the headers of the answer; asked when the stream is decided."""
        headers = [(b"x-request-id", self.asked.request_id.encode())]
        if self.kept is not None and self.stream.committed:
            headers.append((b"x-headrace-stream", self.stream_id.encode()))
        headers += self._allowance.headers()
        if self.call.probe:
            headers.append((b"x-headrace-node", self._parts.holds.node.encode()))
        served_by = self._relay.served_by
        if served_by is not None:
            headers.append((b"x-headrace-backend", served_by.name.encode()))
            headers.append((b"x-headrace-model", quote(self._relay.model, safe="/:@").encode()))
            if served_by.candidate.capabilities.simulated:
                headers.append((b"x-headrace-simulated", b"1"))
        return headers

    def leave(self) -> None:
        """The transport is over; where the stream is not (a drain's deadline, say), its upstream goes, too.

        A resumable stream stays, with nobody reading it.
        """
        self.reader.gone()
        self._relay.check_over()
        if self.kept is None:
            self.stream.close()

    @property
    def unread(self) -> bool:
        """Its stream runs on with nobody reading."""
        return self.kept is not None and self.kept.detached

    def cut(self) -> None:
        """End it: the drain's deadline is over, or a second signal cut the drain short."""
        text = "The gateway is stopping and could not wait for this answer's end. Ask again."
        self.stop(HeadraceError(Code.DRAINING, text))

    def stop(self, error: HeadraceError) -> None:
        """End it in `error`, which its client is told."""
        self._relay.stop(error)

    def _settled(self, relay: Relay) -> None:
        """Client and upstream are over: count, log, forget."""
        settle(self._parts, self, relay, monotonic())
        answered = max(self.stream.events, self.stream.state is StreamState.FINISHED)
        self._allowance.settle(relay.usage, answered)
        self._parts.bodies.release(len(self.call.body))
        self._parts.streams.closed(self)
