"""`/v1/streams/{id}`: GET reads a resumable stream from where its reader stopped, DELETE stops it.

Any instance of the edge takes the request; one that has not got the stream relays it to the one that has, over the
peer listener, which is `serve_peer` behind an address that no client can reach.
"""

from __future__ import annotations

import re
from urllib.parse import parse_qsl, quote, unquote

from edge.endpoints.admission import owner_of
from edge.endpoints.parts import Parts
from edge.sources.peers import KEY_HEADER, TENANT_HEADER
from edge.streams.contracts import Readable, Reply
from edge.streams.kept import Kept, Owner
from edge.transports.http import Header, Receive, Scope, Send, header, send_reply
from edge.transports.sse import deliver
from streamkit.wire.errors import Code, HeadraceError
from streamkit.wire.ids import Instance

__all__ = ["STREAMS", "after_of", "open_reading", "serve_peer", "serve_stream"]

#: Below it lie streams by their ids.
STREAMS = "/v1/streams/"
_NUMBER = re.compile(r"[0-9]{1,15}")


async def serve_stream(
    parts: Parts, stream_id: str, request_id: str, scope: Scope, receive: Receive, send: Send
) -> None:
    """Serve one GET or DELETE of a client.

    Raises:
        HeadraceError: NOT_FOUND, GONE, INVALID_REQUEST, or what `Access.check` raises; nothing has been sent.
    """
    owner = owner_of(parts.access.check(scope))
    await _serve(parts, stream_id, owner, request_id, scope, receive, send)


async def serve_peer(
    parts: Parts, stream_id: str, request_id: str, scope: Scope, receive: Receive, send: Send
) -> None:
    """Serve one GET or DELETE that another instance relays; it has authenticated the client, and says who that is.

    Raises:
        HeadraceError: as `serve_stream`; GONE for what is not here, as a request is relayed once only.
    """
    owner = Owner(*(unquote(header(scope, name).decode("latin-1")) for name in (TENANT_HEADER, KEY_HEADER)))
    if not isinstance(parts.shelf.find(stream_id, owner), Kept):
        raise HeadraceError(Code.GONE, "This stream is not here.")
    await _serve(parts, stream_id, owner, request_id, scope, receive, send, relayed=True)


async def _serve(
    parts: Parts,
    stream_id: str,
    owner: Owner,
    request_id: str,
    scope: Scope,
    receive: Receive,
    send: Send,
    *,
    relayed: bool = False,
) -> None:
    headers = [(b"x-request-id", request_id.encode())]
    stop = scope["method"] == "DELETE"
    after = 0 if stop else after_of(scope)
    found = parts.shelf.find(stream_id, owner)
    if stop and isinstance(found, Kept):
        found.stop()
        await _send_nothing(send, headers)
        return
    reading = open_reading(parts, stream_id, owner, after, request_id=request_id, stop=stop, relayed=relayed)
    try:
        if isinstance(found, Kept) and found.read_out:
            # Nothing is left, and an EventSource must not ask again (WHATWG HTML §9.2.3).
            await _send_nothing(send, headers)
            return
        if not stop:
            headers.append((b"x-headrace-stream", stream_id.encode()))
        await deliver(
            reading,
            scope,
            receive,
            send,
            begin=lambda: None,
            headers=lambda: headers,
            high_bytes=parts.write_high_bytes,
        )
    finally:
        reading.gone()


def open_reading(
    parts: Parts,
    stream_id: str,
    owner: Owner,
    after: int,
    *,
    request_id: str,
    stop: bool = False,
    relayed: bool = False,
) -> Readable:
    """Return a reading of what follows event `after` of a stream, wherever it is; the door for every transport.

    Deliver it, and tell it `gone()` at the end, whatever the end was. For a stream of another instance `decided()`
    waits for that one, and a refusal of its is `reply`.

    Args:
        parts: the edge.
        stream_id: as the client sent it.
        owner: who the client is, see `owner_of`.
        after: the last event that the client has; 0 = none.
        request_id: for the owner's log.
        stop: end the stream of another instance; one of this instance has `Kept.stop`.
        relayed: another instance asks.

    Raises:
        HeadraceError: NOT_FOUND, GONE, INVALID_REQUEST for events that there are not, NO_ROUTE while nobody knows
            who is there.
    """
    found = parts.shelf.find(stream_id, owner)
    if isinstance(found, Kept):
        return found.read(after, relayed=relayed)
    _check_there(parts, found)
    reading = parts.peers.open(
        found,
        b"%b %b%b" % (b"DELETE" if stop else b"GET", STREAMS.encode(), stream_id.encode()),
        (
            (b"last-event-id", b"%d" % after),
            (b"x-request-id", request_id.encode()),
            (TENANT_HEADER, quote(owner.tenant).encode()),
            (KEY_HEADER, quote(owner.key_id).encode()),
        ),
    )
    if reading is None:
        text = "The edge that has this stream cannot be reached from this one (peer_* settings). Ask that one."
        raise HeadraceError(Code.NO_ROUTE, text)
    reading.begin()
    return reading


def after_of(scope: Scope) -> int:
    """Return the last event that a reader has: `Last-Event-ID`, else `?after=`, else 0.

    The header counts more: an EventSource that reconnects keeps its address and brings the newer number there.

    Raises:
        HeadraceError: INVALID_REQUEST; names the header or the parameter.
    """
    name, text = "Last-Event-ID", header(scope, b"last-event-id").decode("latin-1")
    if not text:
        query = dict(parse_qsl(scope.get("query_string", b"").decode("latin-1"), keep_blank_values=True))
        if "after" not in query:
            return 0
        name, text = "after", query["after"]
    if _NUMBER.fullmatch(text) is None:
        said = f"`{name}` must be the number of the last event that was read, in digits; 0 = from the beginning."
        raise HeadraceError(Code.INVALID_REQUEST, said, param=name)
    return int(text)


def _check_there(parts: Parts, instance: Instance) -> None:
    """Refuse an instance that control has not heard of.

    Raises:
        HeadraceError: GONE; or NO_ROUTE where our own news is too old to say so.
    """
    if parts.peers.knows(instance):
        return
    if parts.state.away:
        text = "Control is not heard just now, so it is unknown whether the edge that has this stream is there."
        raise HeadraceError(Code.NO_ROUTE, text)
    raise HeadraceError(Code.GONE, "The edge that had this stream is gone. Ask the question again.")


async def _send_nothing(send: Send, headers: list[Header]) -> None:
    await send_reply(send, Reply(status=204, body=b""), headers)
