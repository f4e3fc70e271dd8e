"""A compositor behind its gRPC door in this process, with voices made of tones, and a caller that keeps up."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import time
import unittest.mock
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from grpc import aio

from compositor.avatars import face
from compositor.contracts import FEATURE_SHAPE, TICK_MS, OpusPacket, Sound, Speech, SpeechTick
from compositor.meters import Meters, watch
from compositor.mouths.link import InferenceLink
from compositor.service import CompositorService
from compositor.session.pace import Pace
from compositor.settings import AvatarSettings, CompositorSettings
from compositor.speech.settings import SpeechSettings
from compositor.speech.voices import SpeechVoices
from compositor.studio import Studio
from streamkit.ops.catalog import CATALOG
from streamkit.ops.metrics import Metrics
from streamkit.wire.errors import Code, HeadraceError
from streamkit.wire.pb import compositor_pb2 as pb
from streamkit.wire.pb.compositor_pb2_grpc import CompositorStub, add_CompositorServicer_to_server
from tests.support.timing import MS

__all__ = ["SMALL", "Caller", "Door", "ToneVoices", "compositor", "until"]

#: A drawn face that costs little to encode.
SMALL = AvatarSettings(id="small", width=256, height=256, bitrate_bps=300_000)
TONE = b"tone"
#: Drawing is half of what a small compositor costs to start, and the same every time.
_DRAWN = functools.cache(lambda width, height, draw=face.drawn: tuple(draw(width, height)))
_FEATURES = [np.full(FEATURE_SHAPE, loudness, np.float32) for loudness in (0.3, 0.9)]


async def until(condition: Callable[[], Any], what: str, *, ms: int = 10_000) -> None:
    """Wait until `condition()` is true; AssertionError after `ms`."""
    deadline = time.monotonic() + ms * MS
    while not condition():
        assert time.monotonic() < deadline, f"not within {ms} ms: {what}"
        await asyncio.sleep(0.005)


class _Tone:
    """An utterance of so many ticks."""

    def __init__(self, voices: ToneVoices, ticks: int, *, fails: bool = False, stalls: bool = False) -> None:
        self._voices, self._ticks, self._fails, self._stalls = voices, ticks, fails, stalls
        self._closed = False
        voices.open += 1

    async def ticks(self) -> AsyncIterator[SpeechTick]:
        """Give them."""
        for number in range(self._ticks):
            yield tone(number)
        if self._stalls:
            await asyncio.Event().wait()
        if self._fails:
            raise HeadraceError(Code.BACKEND_ERROR, "the voice broke off")

    async def aclose(self) -> None:
        """Let go."""
        self._voices.open -= not self._closed
        self._closed = True


class _Heard:
    """An utterance of samples: a tick for each 40 ms of them."""

    def __init__(self, voices: ToneVoices, tick_bytes: int) -> None:
        self._voices, self._tick_bytes = voices, tick_bytes
        self._bytes = 0
        self._over = self._closed = False
        self._more = asyncio.Event()
        voices.open += 1

    def push(self, pcm: bytes) -> None:
        """Take samples."""
        self._bytes += len(pcm)
        if self._bytes > 250 * self._tick_bytes:
            raise HeadraceError(Code.SATURATED, "pcm: at most 10 s may wait", param="pcm")
        self._more.set()

    def end(self) -> None:
        """Take the end."""
        self._over = True
        self._more.set()

    async def ticks(self) -> AsyncIterator[SpeechTick]:
        """Give them."""
        number = 0
        while True:
            while self._bytes >= self._tick_bytes or (self._over and self._bytes):
                self._bytes = max(0, self._bytes - self._tick_bytes)
                yield tone(number)
                number += 1
            if self._over:
                return
            self._more.clear()
            await self._more.wait()

    async def aclose(self) -> None:
        """Let go."""
        self._voices.open -= not self._closed
        self._closed = True


def tone(number: int) -> SpeechTick:
    """Return a tick that opens the mouth; its packets can be told from silence."""
    features = _FEATURES[number % 2]
    packets = tuple(OpusPacket(TONE + b"%d.%d" % (number, half)) for half in range(2))
    return SpeechTick(features, packets, 0.5, voiced=True, needed_at=time.monotonic())


class ToneVoices:
    """Speaks a tick for each letter. `!` at the end breaks off, `…` goes silent without an end."""

    def __init__(self) -> None:
        #: Utterances that were begun and not let go of.
        self.open = 0

    def names(self) -> tuple[str, ...]:
        """Name the voices."""
        return ("tone",)

    def usual(self) -> str:
        """Name the voice of who names none."""
        return "tone"

    def say(self, text: str, voice: str) -> Speech:
        """Begin to speak."""
        if text == "?":
            raise HeadraceError(Code.NO_BACKEND, "voice: it is not to be had")
        return _Tone(self, len(text.rstrip("!…")), fails=text.endswith("!"), stalls=text.endswith("…"))

    def hear(self, sample_rate: int, channels: int) -> Sound:
        """Begin to listen."""
        return _Heard(self, sample_rate * channels * 2 * TICK_MS // 1000)


@dataclass
class Caller:
    """An edge's side of a session: acknowledges what comes unless told not to."""

    call: Any
    opened: pb.Opened | None = None
    units: list[pb.Unit] = field(default_factory=list)
    failed: list[pb.Failed] = field(default_factory=list)
    acks: bool = True
    on_unit: Callable[[pb.Unit], None] = lambda _: None
    error: aio.AioRpcError | None = None
    _writing: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def send(self, **request: Any) -> None:
        """Send one request; gRPC takes one at a time."""
        async with self._writing:
            await self.call.write(pb.SessionRequest(**request))

    async def read(self) -> None:
        """Read to the end."""
        try:
            while (reply := await self.call.read()) is not aio.EOF:
                if reply.HasField("opened"):
                    self.opened = reply.opened
                elif reply.HasField("failed"):
                    self.failed.append(reply.failed)
                else:
                    self.units.append(reply.unit)
                    self.on_unit(reply.unit)
                    if self.acks:
                        await self.send(ack=pb.Ack(seq=reply.unit.seq))
        except aio.AioRpcError as error:
            self.error = error
        except asyncio.InvalidStateError:
            # The call ended between a unit and its acknowledgement.
            await self.call.code()

    @property
    def marks(self) -> list[pb.Mark]:
        """All marks so far."""
        return [mark for unit in self.units for mark in unit.marks]

    def told(self) -> list[tuple[str, int]]:
        """Return kind and number of each mark."""
        return [(pb.Mark.Kind.Name(mark.kind), mark.speech) for mark in self.marks]

    async def marked(self, kind: pb.Mark.Kind.ValueType, speech: int) -> pb.Mark:
        """Wait for a mark and return it."""

        def found() -> list[pb.Mark]:
            return [mark for mark in self.marks if (mark.kind, mark.speech) == (kind, speech)]

        await until(found, f"mark {kind} of {speech}; there are {self.told()}, failed: {self.failed}, {self.error}")
        return found()[0]

    async def shown(self, count: int) -> None:
        """Wait for so many further units."""
        wanted = len(self.units) + count
        await until(lambda: len(self.units) >= wanted or self.error, f"{count} units")
        assert self.error is None, self.error


@dataclass
class Door:
    """A running compositor."""

    stub: CompositorStub
    studio: Studio
    metrics: Metrics
    voices: ToneVoices

    def open(self) -> Any:
        """Begin a call whose requests are written one by one."""
        session: Any = self.stub.Session
        return session()

    @contextlib.asynccontextmanager
    async def session(self, *codecs: int, **fields: Any) -> AsyncIterator[Caller]:
        """Open a session for the length of the block."""
        caller = Caller(self.open())
        given: dict[str, Any] = {"avatar": "small", "codecs": codecs, **fields}
        await caller.send(open=pb.Open(**given))
        reading = asyncio.create_task(caller.read())
        try:
            await until(lambda: caller.opened is not None or caller.error is not None, "Opened")
            yield caller
        finally:
            caller.call.cancel()
            await asyncio.gather(reading, return_exceptions=True)

    async def warm(self) -> None:
        """Wait until the frames of the session that is open are registered, and its model is loaded."""
        await until(lambda: self.studio.sets.registered, "its frames are registered")

    async def refused(self, requests: Sequence[pb.SessionRequest]) -> aio.AioRpcError:
        """Return how a session is refused that begins so."""
        caller = Caller(self.open())
        for request in requests:
            await caller.call.write(request)
        await caller.call.done_writing()
        await caller.read()
        assert caller.error is not None, f"it was not refused; it opened {caller.opened}"
        return caller.error

    def gauges(self) -> dict[str, float]:
        """Return what is open or held for somebody."""
        rows = {}
        for metric in CATALOG:
            if metric.name.removeprefix("headrace_compositor_") in ("sessions", "users", "renders"):
                for labels in ((),) if not metric.labels else (("frames",), ("loops",)):
                    rows[f"{metric.name}{labels}"] = self.metrics.value(metric, *labels)
        return {**rows, "voices": float(self.voices.open)}

    async def quiet(self) -> None:
        """Wait until nothing is held for anybody."""
        await until(lambda: not any(self.gauges().values()), f"nothing is held: {self.gauges()}")


@contextlib.asynccontextmanager
async def compositor(
    inference: str = "127.0.0.1:1",
    *,
    avatars: Sequence[AvatarSettings] = (SMALL,),
    pace: Pace | None = None,
    speech: SpeechSettings | None = None,
    **settings: Any,
) -> AsyncIterator[Door]:
    """Run a compositor for the length of the block; at its end nothing may be held.

    Args:
        inference: where the inference server answers; by default nowhere.
        avatars: that may be asked for.
        pace: time; None = the machine's.
        speech: the voices and ears that it has; None = those made of tones.
        settings: of the compositor.
    """
    # On a busy machine an answer takes what it takes; how long one is waited for has tests of its own.
    wanted = CompositorSettings(**{"inference": inference, "threads": 2, "inference_wait_ms": 5_000, **settings})
    with unittest.mock.patch.object(face, "drawn", _DRAWN):
        async with _running(wanted, avatars, pace, speech) as door:
            yield door


@contextlib.asynccontextmanager
async def _running(
    wanted: CompositorSettings, avatars: Sequence[AvatarSettings], pace: Pace | None, speech: SpeechSettings | None
) -> AsyncIterator[Door]:
    link = InferenceLink(wanted)
    metrics, voices = Metrics(), ToneVoices()
    real = None if speech is None else SpeechVoices.on(speech, lambda: link.stub, metrics)
    studio = Studio(wanted, tuple(avatars), link, real or voices, Meters(metrics), pace=pace)
    watch(metrics, studio)
    server = aio.server(maximum_concurrent_rpcs=64)
    add_CompositorServicer_to_server(CompositorService(studio), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await link.start()
    if real is not None:
        await real.start()
    await server.start()
    try:
        options = [("grpc.use_local_subchannel_pool", 1)]
        async with aio.insecure_channel(f"127.0.0.1:{port}", options=options) as channel:
            door = Door(CompositorStub(channel), studio, metrics, voices)
            yield door
            await door.quiet()
    finally:
        await server.stop(0)
        await studio.stop()
        if real is not None:
            await real.aclose()
        await link.stop()
