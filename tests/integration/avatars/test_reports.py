"""Lips and voice by the sender reports that a viewer gets: both of a tick are due at one time of day."""

from __future__ import annotations

import pytest

from loadtest.soak.lips import Lips
from loadtest.soak.listener import tap
from tests.support.avatars import avatar_site
from tests.support.inprocess import until

pytestmark = [pytest.mark.anyio, pytest.mark.slow]


@pytest.fixture
def anyio_backend():
    return ("asyncio", {"use_uvloop": True})


async def test_a_picture_and_its_sound_have_one_time_of_day():
    async with avatar_site() as site:
        lips = Lips()
        watcher = await site.watch(wait=False)
        for transceiver in watcher.pc.getTransceivers():
            track = lips.sound if transceiver.kind == "audio" else lips.picture
            tap(transceiver.receiver, lambda track=track: track)
        tracks = (lips.picture, lips.sound)
        await until(lambda: all(len(track.reports) >= 4 for track in tracks), "four reports of each", within_s=10)
        found = lips.minute()
        assert found.pictures > 50
        # aiortc's own would be 20 ms apart: it takes the moment of sending, and sound has two packets at a time.
        assert found.skew_median_ms is not None
        assert abs(found.skew_median_ms) < 10
