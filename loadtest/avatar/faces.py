"""Sessions of a real compositor: what a picture costs and looks like, how late it is, what a core carries."""

from __future__ import annotations

import array
import asyncio
import math
import statistics
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

import av
import msgspec
import numpy as np
from grpc import aio

from loadtest.avatar.inference import FPS, MESSAGES
from loadtest.avatar.ssim import ssim
from loadtest.relay import proc
from streamkit.wire.pb import compositor_pb2 as pb
from streamkit.wire.pb.compositor_pb2_grpc import CompositorStub

__all__ = ["AVATARS", "Load", "Picture", "configuration", "loads", "pictures"]

#: The blueprint's figures for a frame: compositing 15 to 20 ms, PNG 5 to 10 ms, and what a thread makes of it.
CLAIMED_COMPOSE_MS: Final = 17.5
CLAIMED_ENCODE_MS: Final = 7.5
CLAIMED_FPS: Final = 40.0
#: It expects 500 to 800 kbit/s of H.264 for a user, and reckons all users' bandwidth with the upper end.
CLAIMED_BPS: Final = 800_000
#: Avatar, width, height, bits a second: what is measured.
AVATARS: Final = (
    ("p720", 1_280, 720, 1_500_000),
    ("p512", 512, 512, 800_000),
    ("p328", 328, 328, 500_000),
)
_RATE: Final = 16_000
_PIECE_S: Final = 0.04
_LAST_TICKS: Final = 12
_NAMES: Final[dict[int, str]] = {pb.H264: "h264", pb.VP8: "vp8", pb.MJPEG: "mjpeg"}


class Picture(msgspec.Struct, frozen=True, kw_only=True):
    """What one picture of a speaking face takes, of one core, in milliseconds."""

    size: str
    codec: str
    pictures: int
    compose_ms: float
    encode_ms: float
    #: Both together; the blueprint's 25 ms is 1.
    total_ms: float
    total_p95_ms: float
    of_claim: float
    #: The blueprint's 40 is 1.
    frames_per_s_per_thread: float
    frames_of_claim: float
    bitrate_bps: float
    #: The upper end of the blueprint's 500 to 800 kbit/s is 1.
    bitrate_of_claim: float
    bitrate_limit_bps: int
    bytes_per_frame: float
    #: Of luma, against the same pictures as JPEGs of quality 100; mean and worst.
    ssim: float
    ssim_worst: float
    #: From the last sample that a tick needed to its unit, without the model: asked for as soon as it was there.
    needed_to_unit_ms: float
    #: The same in the second half but for its last half second: the face's ticks have moved towards the sound's.
    needed_to_unit_aligned_ms: float
    needed_to_unit_aligned_p95_ms: float


class Load(msgspec.Struct, frozen=True, kw_only=True):
    """What sessions take of a core; the compositor's process alone, its gRPC side included."""

    size: str
    codec: str
    kind: str
    sessions: int
    percent_of_core_per_session: float
    sessions_per_core: float
    #: Ticks whose picture was late or found no room.
    left_out: int


def configuration() -> str:
    """Return the avatars that are measured, as tables of a headrace.toml."""
    # Reference pictures for the comparison have nearly no loss.
    lines = ["[compositor]", "mjpeg_quality = 100", "threads = 1", "[speech]", "espeak = false"]
    for name, width, height, bitrate_bps in AVATARS:
        lines += ["[[avatars]]", f'id = "{name}"', f"width = {width}", f"height = {height}"]
        lines += [f"bitrate_bps = {bitrate_bps}"]
    return "\n".join(lines) + "\n"


async def pictures(address: str, seconds: float, *, sizes: int = len(AVATARS)) -> list[Picture]:
    """Let a face of each size speak, in each codec."""
    found = []
    async with _stub(address) as stub:
        for name, width, height, limit in AVATARS[-sizes:]:
            for codec in (pb.H264, pb.VP8):
                timed = await _spoken(stub, name, [codec], seconds)
                compared = await _spoken(stub, name, [codec, pb.MJPEG], min(seconds, 4.0))
                alike = _alike(compared, codec)
                found.append(_picture(f"{width}x{height}", codec, timed, limit, alike))
    return found


async def loads(address: str, pid: int, seconds: float, idle: int, speaking: int, settle_s: float) -> list[Load]:
    """Hold sessions that idle, then some that speak, and read the process's clock.

    Args:
        address: of the compositor.
        pid: its process.
        seconds: of each measurement.
        idle: sessions that idle.
        speaking: sessions that speak.
        settle_s: before it, until all are on the loop, or speak.
    """
    found = []
    async with _stub(address) as stub:
        for kind, count in (("idle", idle), ("speaking", speaking)):
            sessions = [_Session(stub, "p512", [pb.H264]) for _ in range(count)]
            tasks = [asyncio.create_task(session.run()) for session in sessions]
            talk = [asyncio.create_task(session.talk(seconds + 60)) for session in sessions if kind == "speaking"]
            await asyncio.sleep(settle_s)
            begun, cpu = time.monotonic(), proc.process_cpu_ns(pid) or 0
            seen = [len(session.units) for session in sessions]
            await asyncio.sleep(seconds)
            took_s, used_ns = time.monotonic() - begun, (proc.process_cpu_ns(pid) or 0) - cpu
            units = [unit for session, first in zip(sessions, seen, strict=True) for unit in session.units[first:]]
            for task in (*talk, *tasks):
                if task.done():
                    # A session that ended would be one that costs nothing.
                    task.result()
                task.cancel()
            await asyncio.gather(*talk, *tasks, return_exceptions=True)
            share = used_ns / 1e9 / took_s / count
            found.append(
                Load(
                    size="512x512",
                    codec="h264",
                    kind=kind,
                    sessions=count,
                    percent_of_core_per_session=share * 100,
                    sessions_per_core=1 / share,
                    left_out=sum(unit.timing.skipped + (not unit.video) for unit in units),
                )
            )
    return found


class _Session:
    """One caller that acknowledges what comes."""

    def __init__(self, stub: Any, avatar: str, codecs: Sequence[int]) -> None:
        self._call = stub.Session()
        self._avatar, self._codecs = avatar, codecs
        self.units: list[pb.Unit] = []
        self._finished = asyncio.Event()
        self._writing = asyncio.Lock()

    async def run(self) -> None:
        """Read until cancelled."""
        try:
            opening = pb.Open(avatar=self._avatar, codecs=[pb.Codec.ValueType(codec) for codec in self._codecs])
            await self._send(pb.SessionRequest(open=opening))
            while (reply := await self._call.read()) is not aio.EOF:
                if reply.HasField("unit"):
                    self.units.append(reply.unit)
                    await self._send(pb.SessionRequest(ack=pb.Ack(seq=reply.unit.seq)))
                    if any(mark.kind != pb.Mark.STARTED for mark in reply.unit.marks):
                        self._finished.set()
        finally:
            self._call.cancel()

    async def talk(self, seconds: float, *, speech: int = 1) -> None:
        """Send sound at the speed of sound."""
        begun = time.monotonic()
        pieces = list(_pieces(seconds))
        for number, pcm in enumerate(pieces):
            await asyncio.sleep(max(0.0, begun + number * _PIECE_S - time.monotonic()))
            sound = pb.Sound(
                epoch=1, speech=speech, pcm=pcm, sample_rate=_RATE, channels=1, end=number == len(pieces) - 1
            )
            await self._send(pb.SessionRequest(sound=sound))

    async def _send(self, request: pb.SessionRequest) -> None:
        """Send one request; gRPC takes one at a time."""
        async with self._writing:
            await self._call.write(request)

    async def finished(self) -> None:
        """Return when what was said is over."""
        await self._finished.wait()


async def _spoken(stub: Any, avatar: str, codecs: Sequence[int], seconds: float) -> list[pb.Unit]:
    session = _Session(stub, avatar, codecs)
    running = asyncio.create_task(session.run())
    try:
        while len(session.units) < FPS:
            await asyncio.sleep(0.05)
            if running.done():
                await running
        await session.talk(seconds)
        await session.finished()
        return [unit for unit in session.units if unit.video]
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


def _picture(size: str, codec: int, units: Sequence[pb.Unit], limit: int, alike: Sequence[float]) -> Picture:
    units = [unit for unit in units if unit.speaking]
    compose = [unit.timing.compose_us / 1000 for unit in units]
    encode = [unit.timing.encode_us / 1000 for unit in units]
    total = [one + other for one, other in zip(compose, encode, strict=True)]
    late = [(unit.timing.needed_us - unit.timing.inference_us) / 1000 for unit in units]
    # The last ticks of a speech are all made when it ends, and wait for their turn.
    aligned = late[len(late) // 2 : -_LAST_TICKS]
    sizes = [len(video.data) for unit in units for video in unit.video]
    total_ms = statistics.median(total)
    bitrate_bps = 8 * statistics.mean(sizes) * FPS
    return Picture(
        size=size,
        codec=_NAMES[codec],
        pictures=len(units),
        compose_ms=statistics.median(compose),
        encode_ms=statistics.median(encode),
        total_ms=total_ms,
        total_p95_ms=_p95(total),
        of_claim=total_ms / (CLAIMED_COMPOSE_MS + CLAIMED_ENCODE_MS),
        frames_per_s_per_thread=1000 / total_ms,
        frames_of_claim=1000 / total_ms / CLAIMED_FPS,
        bitrate_bps=bitrate_bps,
        bitrate_of_claim=bitrate_bps / CLAIMED_BPS,
        bitrate_limit_bps=limit,
        bytes_per_frame=statistics.mean(sizes),
        ssim=statistics.mean(alike),
        ssim_worst=min(alike),
        needed_to_unit_ms=statistics.median(late),
        needed_to_unit_aligned_ms=statistics.median(aligned),
        needed_to_unit_aligned_p95_ms=_p95(aligned),
    )


def _alike(units: Sequence[pb.Unit], codec: int) -> list[float]:
    """Return how alike each picture of speech is to the same one as a JPEG; those before it are decoded, too."""
    decoder = _decoder(_NAMES[codec])
    found = []
    for unit in units:
        data = {video.codec: video.data for video in unit.video}
        for frame in decoder.decode(av.Packet(data[pb.Codec.ValueType(codec)])):
            if not unit.speaking:
                continue
            (exact,) = _decoder("mjpeg").decode(av.Packet(data[pb.MJPEG]))
            one, other = (shown.to_ndarray(format="gray").astype(np.uint8) for shown in (frame, exact))
            found.append(ssim(one, other))
    return found


def _decoder(name: str) -> av.VideoCodecContext:
    decoder = av.CodecContext.create(name, "r")
    if not isinstance(decoder, av.VideoCodecContext):
        raise TypeError(f"{name} decodes no pictures")
    decoder.thread_count = 1
    return decoder


def _pieces(seconds: float) -> Iterator[bytes]:
    """Yield a voice of sorts: a hum that swells four times a second."""
    for number in range(round(seconds / _PIECE_S)):
        first = round(number * _PIECE_S * _RATE)
        yield array.array(
            "h",
            (
                int(12_000 * abs(math.sin(at / _RATE * 4 * math.pi)) * math.sin(at / _RATE * 2 * math.pi * 220))
                for at in range(first, first + round(_PIECE_S * _RATE))
            ),
        ).tobytes()


def _p95(values: Sequence[float]) -> float:
    return sorted(values)[int(len(values) * 0.95)]


@asynccontextmanager
async def _stub(address: str) -> AsyncIterator[Any]:
    async with aio.insecure_channel(address, options=MESSAGES) as channel:
        yield CompositorStub(channel)
