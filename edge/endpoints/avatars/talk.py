"""One viewer's conversation: what it says, and the chat streams that it has begun."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from time import monotonic
from typing import Final

from edge.avatars.viewer import Viewer
from edge.endpoints.admission import Asked
from edge.endpoints.avatars.spoken import Spoken
from edge.endpoints.carried import Carried
from edge.endpoints.hello import Hello
from edge.endpoints.parts import Parts
from edge.protocol.request import Operation, parse
from edge.protocol.sentences import Sentences
from edge.protocol.socket_out import error_frame
from edge.protocol.talk import Cancel, ChatStart, Interrupt, Latency, Ping, Say, Verb, name_of, read
from edge.streams.contracts import Outlet
from edge.transports.websocket import Carrier
from streamkit.flow.bucket import TokenBucket
from streamkit.wire.errors import Code, HeadraceError
from streamkit.wire.ids import request_id

__all__ = ["Talk"]

#: So often a viewer is told that it says too much.
_TOLD_PER_S: Final = 1.0


class Talk:
    """What one viewer says.

    Args:
        parts: the edge.
        hello: who it is, judged again for each chat.
        viewer: of which session.
        carrier: brings it the streams.
        messages_per_s: that it may say; twice as many at once.
        max_streams: chat streams at a time.
    """

    def __init__(
        self, parts: Parts, hello: Hello, viewer: Viewer, carrier: Carrier, *, messages_per_s: int, max_streams: int
    ) -> None:
        self._parts = parts
        self._hello = hello
        self._viewer = viewer
        self._carrier = carrier
        self._max_streams = max_streams
        self._bucket = TokenBucket(messages_per_s, 2 * messages_per_s)
        self._told = TokenBucket(_TOLD_PER_S, 1)
        self._limit = messages_per_s
        self._streams: dict[str, Carried] = {}
        self._spoken: set[str] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._timer: asyncio.TimerHandle | None = None
        viewer.on_interrupt = self._interrupted

    def take(self, message: bytes) -> None:
        """Take one message."""
        if not self._bucket.try_take():
            if self._told.try_take():
                text = f"More than {self._limit} messages a second; the rest is not read."
                self._carrier.write(error_frame(HeadraceError(Code.OVER_QUOTA, text, param="message")))
            return
        try:
            self._do(read(message))
        except HeadraceError as error:
            name = name_of(message)
            self._carrier.write(error_frame(error, "" if self._under_way(name) else name))

    def relieved(self) -> None:
        """The carrier is under its low mark again."""
        for stream in list(self._streams.values()):
            stream.relieved()

    def gone(self) -> None:
        """The viewer is."""
        if self._timer is not None:
            self._timer.cancel()
        for stream in list(self._streams.values()):
            stream.gone()

    async def ended(self) -> None:
        """Wait until none of its streams runs."""
        if self._tasks:
            await asyncio.wait(list(self._tasks))

    def _do(self, said: Verb) -> None:
        session = self._viewer.session
        match said:
            case ChatStart():
                self._start(said)
            case Cancel():
                # It may have ended while the message was on its way.
                if (stream := self._streams.get(said.id)) is not None:
                    stream.cancel()
            case Say():
                sentences = Sentences()
                found = [*sentences.feed(said.text), *sentences.end()]
                if not found:
                    text = "`text` holds nothing that could be spoken."
                    raise HeadraceError(Code.INVALID_REQUEST, text, param="text")
                session.speech.say(found, said.id)
            case Interrupt():
                session.interrupt()
            case Latency():
                self._sample(said.every_ms / 1000)
            case Ping():
                self._viewer.tell({"type": "pong"} if said.t is None else {"type": "pong", "t": said.t})

    def _start(self, said: ChatStart) -> None:
        parts = self._parts
        if self._under_way(said.id):
            raise HeadraceError(Code.CONFLICT, f"`id`: the stream {said.id} has not ended.", param="id")
        if sum(not stream.over for stream in self._streams.values()) >= self._max_streams:
            text = f"This viewer has {self._max_streams} chat streams; the limit is max_streams."
            raise HeadraceError(Code.SATURATED, text)
        caller = self._hello.caller(parts.access, said.priority)
        call = parse(Operation.CHAT, bytes(said.request), within="request")
        if not call.stream:
            text = "`request.stream` must be true: the answer is spoken while it comes."
            raise HeadraceError(Code.INVALID_REQUEST, text, param="request.stream")
        if not parts.bodies.reserve(len(call.body)):
            raise HeadraceError(Code.OUT_OF_MEMORY, "The gateway's memory budget is used up. Try again shortly.")
        asked = Asked(
            request_id=request_id(),
            caller=caller,
            transport="webrtc" if self._viewer.transport == "webrtc" else "websocket",
            began=monotonic(),
            session=said.session,
            sim=said.sim.encode(),
            forwarded=self._hello.forwarded,
        )
        listen = self._listening(said.id, self._viewer.session.epoch) if said.speak else None
        stream = Carried(parts, self._carrier, said.id, credit=None, listen=listen)
        self._streams[said.id] = stream
        if said.speak:
            self._spoken.add(said.id)
        task = asyncio.get_running_loop().create_task(stream.start(call, asked), name=f"chat {said.id}")
        self._tasks.add(task)
        task.add_done_callback(lambda done: self._over(stream, done))

    def _listening(self, name: str, epoch: int) -> Callable[[Outlet], Outlet]:
        speech = self._viewer.session.speech

        def say(sentences: list[str]) -> None:
            # An interruption stops the stream; what was on its way here is not spoken.
            if speech.epoch == epoch:
                speech.say(sentences, name)

        def refused(error: HeadraceError) -> None:
            self._carrier.write(error_frame(error))

        return lambda outlet: Spoken(outlet, say, refused)

    def _over(self, stream: Carried, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if self._streams.get(stream.name) is stream:
            del self._streams[stream.name]
            self._spoken.discard(stream.name)

    def _under_way(self, name: str) -> bool:
        stream = self._streams.get(name)
        return stream is not None and not stream.over

    def _interrupted(self) -> None:
        for name in list(self._spoken):
            if (stream := self._streams.get(name)) is not None:
                stream.cancel()

    def _sample(self, every_s: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._viewer.sample(on=every_s > 0)
        if every_s > 0:
            self._timer = asyncio.get_running_loop().call_later(every_s, self._tell_samples, every_s)

    def _tell_samples(self, every_s: float) -> None:
        samples = self._viewer.samples()
        if samples:
            self._viewer.tell({"type": "latency", "samples": samples})
        self._timer = asyncio.get_running_loop().call_later(every_s, self._tell_samples, every_s)
