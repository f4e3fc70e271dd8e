"""A viewer whose network goes away in mid-speech, and who comes back: it misses no caption and reads none twice."""

from __future__ import annotations

import asyncio
import json

import pytest
import websockets
from aiortc import RTCSessionDescription

from simulator.compositor.script import Script
from tests.support.avatars import AVATAR, OFFER, Site, Watcher, avatar_site
from tests.support.inprocess import until
from tests.support.udp_path import UdpPath, udp_path

pytestmark = pytest.mark.anyio
WHEP = f"/v1/avatars/{AVATAR}/whep"
TEXT = (
    "One is said. Two is said. Three is said. Four is said. Five is said. Six is said. Seven is said. Eight is said."
)
SENTENCES = [f"{part}." for part in TEXT.rstrip(".").split(". ")]
NUMBERED = ("speech", "playback.started", "playback.finished", "playback.failed", "interrupted")


@pytest.fixture
def anyio_backend():
    return ("asyncio", {"use_uvloop": True})


async def watch(site: Site, path: UdpPath, address: str = WHEP) -> Watcher:
    """Become a viewer whose media takes the path, and no other way."""
    watcher, offer = await site.offer()
    ours = ("a=candidate:", "a=end-of-candidates")
    bare = "".join(line for line in offer.splitlines(keepends=True) if not line.startswith(ours))
    answer = await site.http.post(address, content=bare, headers=OFFER)
    assert answer.status_code == 201, answer.text
    watcher.answer = answer
    through = await path.through(answer.text)
    await watcher.pc.setRemoteDescription(RTCSessionDescription(sdp=through, type="answer"))
    channel = watcher.channel
    assert channel is not None
    await until(lambda: channel.readyState == "open", "the data channel is open")
    return watcher


def back(gone: Watcher) -> str:
    """Return where a viewer goes that knows what it was told last."""
    told = [message["event_id"] for message in gone.told if "event_id" in message]
    return f"{gone.link('urn:headrace:resume')}&after={max(told, default=0)}"


def captions(*watchers: Watcher) -> dict[str, list[object]]:
    """Return what they were told together, by kind."""
    told = [message for watcher in watchers for message in watcher.told]
    return {
        "texts": [one["text"] for one in told if one["type"] == "speech"],
        "started": [one["speech"] for one in told if one["type"] == "playback.started"],
        "finished": [(one["speech"], one["position_ms"]) for one in told if one["type"] == "playback.finished"],
    }


def whole(positions: dict[int, int]) -> dict[str, list[object]]:
    numbers = list(range(1, len(SENTENCES) + 1))
    return {"texts": SENTENCES, "started": numbers, "finished": [(number, positions[number]) for number in numbers]}


async def uncut(site: Site, path: UdpPath) -> dict[int, int]:
    """Return how long each sentence is, as somebody is told who loses nothing."""
    watcher = await watch(site, path)
    watcher.say(type="say", text=TEXT)
    await watcher.heard("playback.finished", len(SENTENCES))
    positions = {one["speech"]: one["position_ms"] for one in watcher.of("playback.finished")}
    await site.http.delete(watcher.location)
    await site.quiet()
    return positions


@pytest.mark.parametrize("missed", [False, True], ids=["at once", "once it was missed"])
async def test_who_comes_back_misses_no_caption_and_reads_none_twice(missed: bool):
    avatars = {"silence_ms": 1_000 if missed else 4_000, "resume_ms": 8_000}
    async with (
        avatar_site(script=Script(ms_per_char=30), avatars=avatars) as site,
        udp_path() as path,
    ):
        whole_ones = whole(await uncut(site, path))
        first = await watch(site, path)
        first.say(type="say", text=TEXT)
        await first.heard("playback.started", 2)
        path.cut()
        if missed:
            await until(lambda: not site.gauge("headrace_avatar_viewers", transport="webrtc"), "it is missed")
        else:
            # Two sentences go into the void before its browser finds out.
            await until(lambda: site.simulator.count()["say"] == 2 * len(SENTENCES), "the face speaks on")
        second = await watch(site, path, back(first))
        await second.heard("playback.finished", speech=len(SENTENCES))
        assert captions(first, second) == whole_ones
        assert (await second.heard("session"))["session"] == (await first.heard("session"))["session"]
        assert second.told[0]["type"] == "session"
        ids = [one["event_id"] for one in first.told + second.told if one["type"] in NUMBERED]
        assert ids == list(range(1, len(ids) + 1))
        await site.http.delete(second.location)
        await site.quiet()
        assert not site.edge.parts.avatars._gallery._places, "nobody can come back to it"


async def test_a_socket_takes_the_place_where_nothing_but_tcp_comes_through_any_more():
    avatars = {"silence_ms": 4_000, "resume_ms": 8_000}
    async with avatar_site(script=Script(ms_per_char=30), avatars=avatars) as site, udp_path() as path:
        whole_ones = whole(await uncut(site, path))
        first = await watch(site, path)
        first.say(type="say", text=TEXT)
        await first.heard("playback.started", 2)
        path.cut()
        await until(lambda: site.simulator.count()["say"] == 2 * len(SENTENCES), "the face speaks on")
        url = site.edge.url.replace("http", "ws") + back(first).replace("/whep?", "/ws?")
        second = Watcher(first.pc, None)
        async with websockets.connect(url, compression=None) as socket:
            while not any(one.get("speech") == len(SENTENCES) for one in second.of("playback.finished")):
                message = await asyncio.wait_for(socket.recv(), 5)
                if isinstance(message, str):
                    second.told.append(json.loads(message))
        assert captions(first, second) == whole_ones
        assert second.told[0]["session"] == first.of("session")[0]["session"]


@pytest.mark.parametrize(
    "query", ["?after=1", "?resume=hv-x&after=-1", "?resume=hv-x&after=1.5", "?resume=hv-x&after=x"]
)
async def test_what_is_no_message_of_a_place_is_refused(query: str):
    async with avatar_site() as site:
        _, offer = await site.offer()
        answer = await site.http.post(WHEP + query, content=offer, headers=OFFER)
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, "after")
