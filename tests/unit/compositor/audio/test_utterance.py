"""Samples in, ticks out: order, bounds, failures, and nothing held at the end."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from compositor.audio.utterance import AHEAD_TICKS, MAX_PENDING_S, Utterance
from compositor.contracts import FEATURE_SHAPE
from streamkit.ops import catalog
from streamkit.ops.metrics import Metrics
from streamkit.wire.errors import Code, HeadraceError
from tests.support.sound import Encoder, become, pcm, speech, workshop

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend():
    # One loop is enough: what is special here are threads.
    return ("asyncio", {"use_uvloop": True})


@pytest.fixture
def metrics():
    found = Metrics()
    yield found
    assert found.value(catalog.SPEECH_PENDING) == 0
    assert found.value(catalog.SPEECH_OPEN) == 0


async def read(utterance: Utterance) -> list:
    return [tick async for tick in utterance.ticks()]


async def read_until_failure(utterance: Utterance, told: str) -> list:
    ticks = []

    async def follow() -> None:
        async for tick in utterance.ticks():
            ticks.append(tick)  # noqa: PERF401  what came before the error counts

    with pytest.raises(HeadraceError, match=told):
        await follow()
    return ticks


async def test_a_pushed_sound_comes_out_as_ticks_in_its_order(metrics):
    utterance = Utterance(workshop(Encoder(), metrics), 24_000, 1)
    sound = speech(1.0, 24_000, silence_s=0.3)
    utterance.push(pcm(sound))
    utterance.end()
    ticks = await read(utterance)
    assert len(ticks) == 40
    assert {tick.features.shape for tick in ticks} == {FEATURE_SHAPE}
    assert [len(tick.packets) for tick in ticks] == [2] * 40
    # Window i's ninth row is feature i - 1, whose fourth mel is the tick's own time.
    drawn = np.array([tick.features.reshape(16, 512)[8, 0] for tick in ticks])
    levels = np.array([tick.level for tick in ticks])
    assert np.corrcoef(drawn, levels)[0, 1] > 0.8
    assert metrics.value(catalog.SPEECH_TICKS) == 40
    assert metrics.value(catalog.SPEECH_ENDED, "finished") == 1
    await utterance.aclose()
    await utterance.aclose()
    assert await read(utterance) == []


async def test_a_tick_says_when_its_last_sample_came(metrics):
    now = [100.0]
    shop = workshop(Encoder(), metrics)
    shop = type(shop)(shop.encoder, shop.pool, shop.meters, clock=lambda: now[0])
    utterance = Utterance(shop, 16_000, 1)
    data = pcm(speech(1.0))
    for at in range(0, len(data), 1280):
        now[0] += 0.04
        utterance.push(data[at : at + 1280])
    now[0] += 5.0
    utterance.end()
    needed = [tick.needed_at for tick in await read(utterance)]
    # Tick 0 waits for 450 ms of sound: the twelfth piece of 40 ms, and the resampler's few samples.
    assert needed[0] == pytest.approx(100.0 + 12 * 0.04, abs=0.041)
    assert needed == sorted(needed)
    assert needed[-1] == pytest.approx(106.0)
    await utterance.aclose()


async def test_no_more_than_a_second_is_made_ahead_of_the_reader(metrics):
    utterance = Utterance(workshop(Encoder(), metrics), 16_000, 1)
    utterance.push(pcm(speech(5.0)))
    utterance.end()
    await become(lambda: metrics.value(catalog.SPEECH_TICKS) >= AHEAD_TICKS)
    ticks = utterance.ticks()
    for read_so_far in range(1, 30):
        await anext(ticks)
        await asyncio.sleep(0)
        assert metrics.value(catalog.SPEECH_TICKS) <= read_so_far + AHEAD_TICKS
    await ticks.aclose()
    await utterance.aclose()
    assert metrics.value(catalog.SPEECH_ENDED, "closed") == 1


async def test_more_than_ten_seconds_may_not_wait(metrics):
    gate = asyncio.Event()
    utterance = Utterance(workshop(Encoder(gate), metrics), 8_000, 2)
    second = bytes(8_000 * 4)
    for _ in range(MAX_PENDING_S):
        utterance.push(second)
    with pytest.raises(HeadraceError, match=f"pcm: at most {MAX_PENDING_S} s of samples may wait") as caught:
        utterance.push(second)
    assert caught.value.code is Code.SATURATED
    await utterance.aclose()


async def test_a_voice_waits_instead(metrics):
    gate = asyncio.Event()
    utterance = Utterance(workshop(Encoder(gate), metrics), 16_000, 1)
    feeding = asyncio.create_task(utterance.feed(pcm(speech(4.0))))
    await become(lambda: metrics.value(catalog.SPEECH_PENDING) >= 32_000)
    assert not feeding.done()
    assert metrics.value(catalog.SPEECH_PENDING) < 2 * 32_000
    gate.set()
    reading = asyncio.create_task(read(utterance))
    await feeding
    utterance.end()
    assert len(await reading) == 100
    await utterance.aclose()


async def test_half_a_sample_and_samples_after_the_end_are_refused(metrics):
    utterance = Utterance(workshop(Encoder(), metrics), 16_000, 2)
    with pytest.raises(HeadraceError, match="pcm: expected whole samples of 4 bytes, got 6 bytes"):
        utterance.push(bytes(6))
    utterance.end()
    with pytest.raises(HeadraceError, match="pcm: expected nothing after the end"):
        utterance.push(bytes(4))
    assert await read(utterance) == []
    # Whoever comes late to something that is over has not done anything wrong.
    utterance.push(bytes(4))
    await utterance.aclose()
    utterance.push(bytes(4))


async def test_a_voice_that_breaks_off_is_heard_so_far_and_then_told(metrics):
    utterance = Utterance(workshop(Encoder(), metrics), 16_000, 1)
    await utterance.feed(pcm(speech(0.4)))
    utterance.fail(HeadraceError(Code.STREAM_BROKEN, "the voice broke off"))
    assert len(await read_until_failure(utterance, "the voice broke off")) == 10
    assert metrics.value(catalog.SPEECH_ENDED, "failed") == 1
    await utterance.aclose()


class Failing(Encoder):
    def __init__(self, after: int, error: Exception) -> None:
        super().__init__()
        self._after = after
        self._error = error

    async def encode(self, mels):
        if len(self.batches) >= self._after:
            raise self._error
        return await super().encode(mels)


@pytest.mark.parametrize(
    ("error", "told"),
    [(HeadraceError(Code.NO_BACKEND, "no encoder"), "no encoder"), (OSError("x"), "could not be prepared")],
)
async def test_an_encoder_that_fails_leaves_what_stands(metrics, error, told):
    utterance = Utterance(workshop(Failing(1, error), metrics), 16_000, 1)
    utterance.push(pcm(speech(3.0)))
    utterance.end()
    assert 0 < len(await read_until_failure(utterance, told)) < 20
    await utterance.aclose()


async def test_closing_waits_for_nobody_else_s_work(metrics):
    busy, begun = threading.Event(), threading.Event()

    def occupy() -> None:
        begun.set()
        busy.wait()

    with ThreadPoolExecutor(1) as pool:
        pool.submit(occupy)
        begun.wait()
        shop = workshop(Encoder(), metrics)
        utterance = Utterance(type(shop)(shop.encoder, pool, shop.meters), 16_000, 1)
        utterance.push(pcm(speech(0.5)))
        await become(lambda: metrics.value(catalog.SPEECH_PENDING) == 0)
        # Its work is in the line behind that one, and leaves it.
        await utterance.aclose()
        busy.set()
    assert metrics.value(catalog.SPEECH_ENDED, "closed") == 1


async def test_closing_before_anything_has_begun_counts_as_well(metrics):
    utterance = Utterance(workshop(Encoder(), metrics), 16_000, 1)
    utterance.push(pcm(speech(0.5)))
    await utterance.aclose()
    assert await read(utterance) == []
    assert metrics.value(catalog.SPEECH_ENDED, "closed") == 1


async def test_closing_in_the_middle_frees_everything(metrics):
    before = {thread.name for thread in threading.enumerate()}
    gate = asyncio.Event()
    for encoder in (Encoder(), Encoder(gate)):
        utterance = Utterance(workshop(encoder, metrics), 16_000, 1)
        utterance.push(pcm(speech(3.0)))
        reading = asyncio.create_task(read(utterance))
        await become(lambda: encoder.batches)  # noqa: B023  awaited in this turn
        await utterance.aclose()
        await reading
        assert metrics.value(catalog.SPEECH_PENDING) == 0
    assert {task.get_name() for task in asyncio.all_tasks()}.isdisjoint({"utterance"})
    assert len({thread.name for thread in threading.enumerate()} - before) <= 2
