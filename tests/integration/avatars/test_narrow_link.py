"""A viewer behind a narrow network: pictures take what comes through, and what is wanted once more does."""

from __future__ import annotations

import asyncio
from time import monotonic

import pytest

from tests.support.avatars import Watcher, site_before
from tests.support.inference import inference
from tests.support.inprocess import until
from tests.support.narrow import NarrowLink
from tests.support.processes import launch

pytestmark = [pytest.mark.anyio, pytest.mark.slow, pytest.mark.alone]
WANTED = 800_000
MINE = f'[[avatars]]\nid = "anna"\nbitrate_bps = {WANTED}\n[speech]\nespeak = false\n'
WIDE = 20_000_000


@pytest.fixture
def anyio_backend():
    return ("asyncio", {"use_uvloop": True})


@pytest.fixture(scope="module")
def compositor_url(tmp_path_factory):
    folder = tmp_path_factory.mktemp("faces")
    (folder / "mine.toml").write_text(MINE)
    with inference(folder) as mouths:
        server = str(mouths.ready["url"]).removeprefix("grpc://")
        line = ["--config", "mine.toml", "--port", "0", "--ops-port", "0", "--inference", server]
        with launch("compositor", *line, folder=folder, name="compositor") as running:
            yield str(running.ready()["url"])


async def seen_for(watcher: Watcher, seconds: float) -> int:
    """Let so much time pass; return how many pictures were decoded."""
    before = len(watcher.frames)
    end = monotonic() + seconds
    await until(lambda: monotonic() > end, "time passes", within_s=seconds + 1)
    return len(watcher.frames) - before


@pytest.mark.timeout(150)
async def test_pictures_take_what_comes_through_and_what_is_wanted_when_more_does(compositor_url: str):
    async with site_before(None, avatars={"compositor_url": compositor_url}) as site, NarrowLink(WIDE) as link:
        watcher = await site.watch("/v1/avatars/anna/whep", link=link)
        await seen_for(watcher, 5.0)
        wide_bps = link.rate_bps(3.0)
        link.bits_per_s = wide_bps * 0.7
        await until(lambda: link.queue_s > 0.1, "packets queue", within_s=10)
        await until(lambda: link.queue_s < 0.05 and link.rate_bps(3.0) < wide_bps * 0.72, "they do not", within_s=30)
        dropped = link.dropped
        queued = []

        async def looked() -> None:
            while True:
                queued.append(link.queue_s)
                await asyncio.sleep(0.05)

        looking = asyncio.create_task(looked())
        frames = await seen_for(watcher, 6.0)
        looking.cancel()
        narrow_bps = link.rate_bps(5.0)
        late = sorted(queued)[len(queued) * 9 // 10]
        link.bits_per_s = WIDE
        await until(lambda: link.rate_bps(3.0) > wide_bps * 0.9, "it is as it was", within_s=40)
        print(
            f"\nnarrow link: {wide_bps / 1000:.0f} kbit/s, narrowed to {wide_bps * 0.7 / 1000:.0f}: then"
            f" {narrow_bps / 1000:.0f}, {frames / 6:.1f} pictures/s, a queue of {1000 * late:.0f} ms (p90),"
            f" {link.dropped - dropped} lost; and {link.rate_bps(3.0) / 1000:.0f} once it is wide"
        )
        assert link.dropped - dropped < 10, "hardly anything is lost once it has found its pace"
        assert frames > 6 * 15
