"""One avatar session: its tick, what it is told, and the units that it gives."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Coroutine
from typing import Any, Final

from compositor.avatars.gallery import Scene
from compositor.contracts import TICK_MS, Sound, Voices
from compositor.meters import Meters
from compositor.mouths.stream import MouthStream
from compositor.session.feeder import Feeder
from compositor.session.lines import Line, Lines, Outcome
from compositor.session.pace import Pace
from compositor.session.phase import Phase
from compositor.session.posture import SILENCE, Kind, Posture, Step
from compositor.session.stage import Shown, Stage
from compositor.session.timeline import Tick, Timeline
from compositor.session.wishes import bytes_of_pcm, checked_codec, checked_codecs, checked_say, wrong
from compositor.workshop import Workshop
from streamkit.wire.errors import Code, HeadraceError
from streamkit.wire.pb import compositor_pb2 as pb

__all__ = ["Session"]

_log = logging.getLogger(__name__)
#: Answers to bad requests that may wait for the caller to read them.
_FAILURES: Final = 64
_MICRO: Final = 1_000_000


class Session:
    """One face, from its opening to its end.

    Args:
        scene: what is shown.
        mouths: who makes mouths.
        voices: who speaks.
        voice: which of them; empty = the default one.
        workshop: encoders, loops, threads.
        bitrate_bps: of the video at first.
        pace: time.
        meters: counts.
    """

    def __init__(
        self,
        scene: Scene,
        mouths: MouthStream,
        voices: Voices,
        voice: str,
        *,
        workshop: Workshop,
        bitrate_bps: int,
        pace: Pace,
        meters: Meters,
    ) -> None:
        settings = workshop.settings
        self.bitrate_bps = bitrate_bps
        self._voices, self._voice = voices, voice
        self._mouths = mouths
        self._available = workshop.codecs.available
        self._ack_timeout_s = settings.ack_timeout_ms / 1000
        self._pace = pace
        self._meters = meters
        self.stage = Stage(scene, workshop, bitrate_bps, meters)
        self.lines = Lines(settings.max_speeches, self._ended)
        self._posture = Posture(settings.inference_wait_ms / 1000)
        self._feeder = Feeder(
            self.lines,
            mouths,
            frame_of=scene.clip.index,
            next_position=self._posture.next_position,
            lookahead=max(1, settings.lookahead_ms // TICK_MS),
            max_batch=settings.max_batch,
            wait_s=settings.speech_wait_ms / 1000,
            clock=pace.now,
            on_mouthless=self._mouthless,
            on_caught_up=self._caught_up,
        )
        self.timeline = Timeline(pace.now(), settings.window)
        self._phase = Phase()
        #: Units, at most the window; answers to bad requests, at most `_FAILURES`; then why it ends.
        self._out: asyncio.Queue[pb.SessionReply | HeadraceError | None] = asyncio.Queue()
        self._failures = 0
        self._skipped = 0
        self._closing: set[asyncio.Task[None]] = set()

    async def replies(self, requests: AsyncIterator[pb.SessionRequest]) -> AsyncGenerator[pb.SessionReply, None]:
        """Yield everything that is said to the caller after `Opened`, until the caller has no more to say.

        Raises:
            HeadraceError: why the session ends early.
        """
        tasks = [
            asyncio.create_task(self._guarded(part), name=name)
            for name, part in (
                ("tick", self._run()), ("feed", self._feeder.run()), ("hear", self._hear(requests)),
            )
        ]  # fmt: skip
        try:
            while (reply := await self._out.get()) is not None:
                if isinstance(reply, HeadraceError):
                    raise reply
                self._failures -= reply.HasField("failed")
                yield reply
        finally:
            # Everything is let go of before anything is waited for: gRPC may cancel us a second time meanwhile.
            for task in tasks:
                task.cancel()
            self._feeder.close()
            self.stage.close()
            self._mouths.cancel()
            await asyncio.wait({*tasks, *self._closing, *self._feeder.closing})

    async def _guarded(self, part: Coroutine[Any, Any, None]) -> None:
        ending: HeadraceError | None = None
        try:
            await part
        except HeadraceError as error:
            ending = error
        except Exception:  # noqa: BLE001  the task's outermost frame: the session ends with it
            _log.exception("session.broke")
            ending = HeadraceError(Code.INTERNAL, "the session broke")
        self._out.put_nowait(ending)

    async def _run(self) -> None:
        while True:
            due_s = self.timeline.due_s
            await self._pace.until(due_s)
            now_s = self._pace.now()
            if self.timeline.silent_s(now_s) > self._ack_timeout_s:
                raise HeadraceError(
                    Code.SLOW_READER, f"nothing was acknowledged for {self._ack_timeout_s:g} s (ack_timeout_ms)"
                )
            passed = self.timeline.passed
            tick = self.timeline.advance(now_s)
            if tick is None:
                gone = self.timeline.passed - passed
                self._skipped += gone
                self._meters.no_room.value += gone
                self.stage.left_out(room=False)
            else:
                step = self._posture.step(self._feeder.queue, now_s)
                self._align(step, due_s, now_s)
                await self._tick(tick, step)

    def _align(self, step: Step, due_s: float, now_s: float) -> None:
        """Move the ticks towards a microphone's: what a voice says is there long before it is shown."""
        line = self.lines.front if step.ready is None else step.ready.line
        if line is None or not line.started or not line.live(now_s):
            return
        if step.ready is None:
            self._phase.held()
        else:
            self.timeline.move(self._phase.shown(due_s - step.ready.ready_s))

    async def _tick(self, tick: Tick, step: Step) -> None:
        shown = await self.stage.show(step, tick)
        ready = step.ready
        if ready is not None and ready.line.closed:
            # Interrupted while it was drawn: nobody is to hear it.
            step = Step(Kind.SPEAK, step.position)
            ready = None
        if ready is not None:
            self.lines.played(ready.line)
        self.lines.settle()
        self._feeder.nudge()
        self._out.put_nowait(pb.SessionReply(unit=self._unit(tick, step, shown)))

    def _unit(self, tick: Tick, step: Step, shown: Shown) -> pb.Unit:
        ready = step.ready
        packets = step.packets if ready is not None else (SILENCE, SILENCE)
        timing = pb.Timing(
            compose_us=round(shown.compose_s * _MICRO),
            encode_us=round(shown.encode_s * _MICRO),
            skipped=self._skipped,
        )
        if ready is not None:
            needed_s = max(0.0, self._pace.now() - ready.tick.needed_at)
            timing.needed_us = min(round(needed_s * _MICRO), 0xFFFFFFFF)
            timing.inference_us = round(ready.inference_s * _MICRO)
            self._meters.needed.observe(needed_s)
            if ready.inference_s:
                self._meters.inference.observe(ready.inference_s)
        self._skipped = 0
        (self._meters.speaking_units if ready is not None else self._meters.idle_units).value += 1
        return pb.Unit(
            epoch=self.lines.epoch,
            seq=tick.seq,
            pts=tick.video_pts,
            audio=[
                pb.Audio(data=packet.data, pts=tick.audio_pts(at), samples=packet.samples)
                for at, packet in enumerate(packets)
            ],
            video=shown.video,
            marks=self.lines.take_marks(),
            speaking=ready is not None,
            timing=timing,
        )

    async def _hear(self, requests: AsyncIterator[pb.SessionRequest]) -> None:
        async for request in requests:
            kind = request.WhichOneof("request")
            try:
                self._take(kind, request)
            except HeadraceError as error:
                self._failed(error, getattr(getattr(request, kind or "", None), "speech", 0))

    def _take(self, kind: str | None, request: pb.SessionRequest) -> None:
        match kind:
            case "ack":
                if not self.timeline.ack(request.ack.seq, self._pace.now()):
                    raise wrong("seq", f"expected at most {self.timeline.sent}, got {request.ack.seq}")
            case "say":
                self._say(request.say)
            case "sound":
                self._sound(request.sound)
            case "interrupt":
                self._feeder.drop(self.lines.interrupt(request.interrupt.epoch))
            case "keyframe":
                self.stage.want_keyframe(checked_codec(request.keyframe.codec, self.stage.codecs))
            case "bitrate":
                if request.bitrate.codec != pb.NONE:
                    checked_codec(request.bitrate.codec, self._available)
                if not request.bitrate.bitrate_bps:
                    raise wrong("bitrate_bps", "expected a number above 0")
                self.stage.want_bitrate(request.bitrate.codec, request.bitrate.bitrate_bps)
            case "codecs":
                self.stage.want(checked_codecs(request.codecs.codecs, self._available))
            case "open":
                raise wrong("open", "expected once, at the beginning")
            case _:
                raise wrong("request", "expected one of its kinds, got none")

    def _say(self, request: pb.Say) -> None:
        text = checked_say(request)
        self.lines.add(Line(request.epoch, request.speech, lambda: self._voices.say(text, self._voice)))
        self._feeder.nudge()

    def _sound(self, request: pb.Sound) -> None:
        if not request.speech:
            raise wrong("speech", "expected a number above 0")
        line = self.lines.find(request.speech)
        if line is None and self.lines.known(request.speech):
            # Pieces of what was interrupted are still on their way.
            return
        second = bytes_of_pcm(request.pcm, request.sample_rate, request.channels, max_s=1)
        if line is None:
            sound = self._voices.hear(request.sample_rate, request.channels)
            line = Line(request.epoch, request.speech, lambda: sound, sound=sound, speech=sound)
            line.form = (request.sample_rate, request.channels)
            line.begun_s = self._pace.now()
            self._added(line, sound)
        if line.sound is None:
            raise wrong("speech", f"{request.speech} is a text's number")
        if line.form != (request.sample_rate, request.channels):
            raise wrong("sample_rate", f"expected {line.form[0]} Hz and {line.form[1]} channels as at its beginning")
        if line.closed:
            return
        if line.shut:
            raise wrong("pcm", "expected nothing after the end")
        line.sound.push(request.pcm)
        line.pushed_s += len(request.pcm) / second
        if request.end:
            line.shut = True
            line.sound.end()

    def _added(self, line: Line, sound: Sound) -> None:
        added = False
        try:
            added = self.lines.add(line)
            self._feeder.nudge()
        finally:
            if not added:
                task = asyncio.create_task(sound.aclose(), name="close sound")
                self._closing.add(task)
                task.add_done_callback(self._closing.discard)

    def _failed(self, error: HeadraceError, speech: int) -> None:
        if self._failures >= _FAILURES:
            raise HeadraceError(Code.SLOW_READER, f"{_FAILURES} answers to bad requests were not read")
        self._failures += 1
        failed = pb.Failed(code=error.code.value, message=error.message, speech=speech)
        self._out.put_nowait(pb.SessionReply(failed=failed))

    def _ended(self, outcome: Outcome) -> None:
        self._meters.speeches[outcome].value += 1

    def _caught_up(self) -> None:
        self._meters.caught_up.value += 1

    def _mouthless(self, count: int, error: HeadraceError) -> None:
        self._meters.mouthless[error.code].value += count
