"""`WS /v1/ws`: many streams on one socket (docs/reference/websocket.md)."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from time import monotonic
from typing import TYPE_CHECKING, Final

from edge.endpoints.admission import Asked, owner_of
from edge.endpoints.carried import Carried
from edge.endpoints.hello import Hello, hello_of
from edge.endpoints.origin import check_origin
from edge.endpoints.parts import Parts
from edge.endpoints.resumed import Resumed
from edge.protocol.request import Call, Operation, parse
from edge.protocol.socket_in import Cancel, Credit, Resume, Start, name_of, read
from edge.protocol.socket_out import error_frame
from edge.server.upgrade import UPGRADE, Upgrade
from edge.streams.slow_reader import SlowReader
from edge.transports.http import Scope, header
from streamkit.ops import catalog
from streamkit.wire.errors import TABLE, Code, HeadraceError
from streamkit.wire.ids import request_id

if TYPE_CHECKING:
    from edge.server.websocket import WebSocket

__all__ = ["PATH", "serve_socket"]

PATH: Final = "/v1/ws"
_TOO_SLOW: Final = TABLE[Code.SLOW_READER].ws_close
_RESTART: Final = TABLE[Code.DRAINING].ws_close
#: Close codes that are counted by name; clients may make up others.
_COUNTED: Final = frozenset(
    {1000, 1001, 1002, 1003, 1005, 1006, 1007, 1009, *(wire.ws_close for wire in TABLE.values())}
)


async def serve_socket(parts: Parts, name: str, scope: Scope) -> None:
    """Serve one socket to its end.

    Args:
        parts: the edge.
        name: the handshake's request id.
        scope: the handshake.

    Raises:
        HeadraceError: the handshake is refused; nothing has been sent.
    """
    upgrade = (scope.get("extensions") or {}).get(UPGRADE)
    if not isinstance(upgrade, Upgrade):
        text = f"{PATH} speaks WebSocket: connect with ws:// or wss://, or stream with POST /v1/chat/completions."
        raise HeadraceError(Code.INVALID_REQUEST, text, param="Upgrade")
    if any(header(scope, kind) not in (b"", b"0") for kind in (b"content-length", b"transfer-encoding")):
        raise HeadraceError(Code.INVALID_REQUEST, "A WebSocket handshake has no body.", param="body")
    check_origin(scope, parts.cors)
    hello = hello_of(scope)
    hello.caller(parts.access)
    socket = upgrade.accept(
        scope,
        parts.sockets.limits,
        parts.sockets.frames,
        subprotocol=hello.subprotocol,
        headers=[(b"x-request-id", name.encode())],
    )
    await _Session(parts, hello, socket).run()


class _Session:
    """The streams of one socket."""

    def __init__(self, parts: Parts, hello: Hello, socket: WebSocket) -> None:
        self._parts = parts
        self._hello = hello
        self._socket = socket
        self._streams: dict[str, Carried] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._draining = False
        self._reader = SlowReader(asyncio.get_running_loop(), parts.timings.slow_reader_s, self._stuck)
        socket.on_message = self._take
        socket.on_pause = self._paused
        socket.on_resume = self._resumed
        socket.on_disconnect = self._gone
        socket.on_shutdown = self._shutdown

    async def run(self) -> None:
        """Return when the socket and its streams are over."""
        parts, socket = self._parts, self._socket
        parts.sockets.open.add(socket)
        try:
            await socket.closed()
        finally:
            socket.abort()
            parts.sockets.open.discard(socket)
            code = str(socket.close_code) if socket.close_code in _COUNTED else "other"
            parts.metrics.counter(catalog.SOCKETS_CLOSED, code).value += 1
            self._reader.stop()
            if self._tasks:
                await asyncio.wait(self._tasks)

    # What the client says

    def _take(self, message: bytes) -> None:
        said = None
        try:
            said = read(message)
            self._count(type(said).__name__.lower())
            if isinstance(said, Start):
                self._start(said)
            elif isinstance(said, Resume):
                self._resume(said)
            else:
                self._steer(said)
        except HeadraceError as error:
            name = said.id if said is not None else name_of(message)
            if said is None:
                self._count("refused")
            # An error with a name ends that stream, so a running one is not named.
            self._socket.reply(error_frame(error, "" if self._under_way(name) else name))

    def _steer(self, said: Cancel | Credit) -> None:
        # It may have ended while the message was on its way.
        stream = self._streams.get(said.id)
        if stream is None:
            return
        if isinstance(said, Credit):
            stream.grant(said.bytes)
        else:
            stream.cancel()

    def _start(self, said: Start) -> None:
        parts = self._parts
        self._check_room(said.id)
        caller = self._hello.caller(parts.access, said.priority)
        window_s = self._window_s(said.resume)
        body = bytes(said.request)
        call = self._call(said.operation, body)
        if not parts.bodies.reserve(len(body)):
            raise HeadraceError(Code.OUT_OF_MEMORY, "The gateway's memory budget is used up. Try again shortly.")
        asked = Asked(
            request_id=request_id(),
            caller=caller,
            transport="websocket",
            began=monotonic(),
            session=said.session,
            sim=said.sim.encode(),
            forwarded=self._hello.forwarded,
            window_s=window_s,
        )
        stream = self._carried(said.id, said.credit)
        self._run(stream, stream.start(call, asked))

    def _resume(self, said: Resume) -> None:
        self._check_room(said.id)
        owner = owner_of(self._hello.caller(self._parts.access))
        resumed = Resumed(self._parts, said.stream, owner, said.after)
        stream = self._carried(said.id, said.credit, said.after)
        self._run(stream, stream.read(resumed))

    def _check_room(self, name: str) -> None:
        if self._under_way(name):
            raise HeadraceError(Code.CONFLICT, f"`id`: the stream {name} of this socket has not ended.", param="id")
        if self._draining:
            raise HeadraceError(Code.DRAINING, "The gateway is stopping; connect again for further streams.")
        limit = self._parts.sockets.max_streams
        if len(self._streams) >= limit and sum(not stream.over for stream in self._streams.values()) >= limit:
            text = f"This socket carries {limit} streams; the limit is ws_max_streams."
            raise HeadraceError(Code.SATURATED, text)

    def _under_way(self, name: str) -> bool:
        """Say whether a stream of that name has not heard its last message; its task may take a turn longer."""
        stream = self._streams.get(name)
        return stream is not None and not stream.over

    def _window_s(self, seconds: int | None) -> float:
        if seconds is None:
            return 0.0
        longest = int(self._parts.shelf.settings.longest_s)
        if not longest:
            said = "is turned off at this gateway (resume_max_ms = 0)."
            raise HeadraceError(Code.INVALID_REQUEST, f"`resume` {said}", param="resume")
        if seconds > longest:
            text = f"`resume` must be whole seconds from 1 to {longest}."
            raise HeadraceError(Code.INVALID_REQUEST, text, param="resume")
        return float(seconds)

    def _carried(self, name: str, credit: int | None, seq: int = 0) -> Carried:
        credit = credit if credit is not None else self._parts.sockets.credit_bytes or None
        return Carried(self._parts, self._socket, name, credit=credit, seq=seq)

    def _run(self, stream: Carried, task: Coroutine[None, None, None]) -> None:
        self._streams[stream.name] = stream
        running = asyncio.get_running_loop().create_task(task, name=f"ws {stream.name}")
        self._tasks.add(running)
        running.add_done_callback(lambda done: self._over(stream, done))

    def _call(self, operation: str, body: bytes) -> Call:
        call = parse(Operation(operation), body, within="request")
        if not call.stream:
            text = "`request.stream` must be true: a socket carries streams."
            raise HeadraceError(Code.INVALID_REQUEST, text, param="request.stream")
        return call

    def _count(self, kind: str) -> None:
        self._parts.metrics.counter(catalog.SOCKET_MESSAGES, kind).value += 1

    # What becomes of the socket

    def _over(self, stream: Carried, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if self._streams.get(stream.name) is stream:
            del self._streams[stream.name]
        if self._draining and not self._streams:
            self._socket.close(_RESTART, "the gateway is stopping")

    def _paused(self) -> None:
        self._reader.pause(self._socket)

    def _resumed(self) -> None:
        self._reader.resume()
        for stream in list(self._streams.values()):
            stream.relieved()

    def _stuck(self) -> None:
        self._socket.abort(_TOO_SLOW)

    def _gone(self) -> None:
        for stream in list(self._streams.values()):
            stream.gone()

    def _shutdown(self) -> None:
        self._draining = True
        if not self._streams:
            self._socket.close(_RESTART, "the gateway is stopping")
