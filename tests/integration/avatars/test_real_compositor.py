"""The same edge before the real compositor: its drawn face, and the real inference server behind it."""

from __future__ import annotations

from time import monotonic

import numpy as np
import pytest

from tests.support.avatars import OFFER, Watcher, site_before
from tests.support.inference import inference
from tests.support.inprocess import until
from tests.support.processes import launch
from tests.support.sound import pcm, speech

pytestmark = [pytest.mark.anyio, pytest.mark.slow]
RATE = 16_000
#: The middle of the drawn mouth, which is dark inside.
MOUTH = (slice(146, 158), slice(124, 132))
MINE = '[[avatars]]\nid = "anna"\nwidth = 256\nheight = 256\nbitrate_bps = 300000\n[speech]\nespeak = false\n'


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


def agreement(watcher: Watcher, since: float) -> tuple[float, int]:
    """Return how well mouth and voice agree, and by how many ms the voice is late where they agree best."""
    dark = np.array([(at, 255 - f.to_ndarray(format="gray")[MOUTH].mean()) for at, f in watcher.frames if at > since])
    loud = np.array([(at, np.abs(f.to_ndarray().astype(float)).mean()) for at, f in watcher.sound if at > since])
    grid = np.arange(dark[0, 0], dark[-1, 0], 0.02)
    seen = np.interp(grid, *dark.T)
    found = [
        (float(np.corrcoef(seen, np.interp(grid + lag / 1000, *loud.T))[0, 1]), lag) for lag in range(-200, 420, 20)
    ]
    return max(found)


async def test_a_face_is_watched_speaks_and_is_interrupted(compositor_url: str):
    async with site_before(None, avatars={"compositor_url": compositor_url}) as site:
        rows = (await site.http.get("/v1/avatars")).json()["data"]
        assert [(row["id"], row["width"], row["ready"]) for row in rows] == [("anna", 256, True)]
        path = "/v1/avatars/anna/whep"
        watcher = await site.watch(path)
        session = (await watcher.heard("session"))["session"]
        await until(lambda: len(watcher.frames) > 5, "it is seen", within_s=20)
        assert {(frame.width, frame.height) for _, frame in watcher.frames} == {(256, 256)}
        kind = {"content-type": f"audio/l16;rate={RATE};channels=1"}
        sound = f"/v1/avatars/{session}/sound"
        # The first mouths of a model are slow: they are not what is measured.
        first = (await site.http.post(sound, content=pcm(speech(0.6, RATE)), headers=kind)).json()["speech"]
        await until(lambda: watcher.of("playback.finished"), "it has warmed up", within_s=20)
        since = monotonic()
        second = (await site.http.post(sound, content=pcm(speech(2.4, RATE)), headers=kind)).json()["speech"]
        assert second > first
        await until(lambda: len(watcher.of("playback.finished")) == 2, "it was spoken", within_s=20)
        finished = watcher.of("playback.finished")[1]
        assert (finished["speech"], finished["position_ms"], finished["interrupted"]) == (second, 2_400, False)
        fit, lag = agreement(watcher, since)
        print(f"\nreal compositor: mouth and voice {fit:.2f}, voice {lag} ms after the picture")
        assert fit > 0.6

        await site.http.post(sound, content=pcm(speech(5.0, RATE)), headers=kind)
        await until(lambda: len(watcher.of("playback.started")) == 3, "it speaks again", within_s=20)
        watcher.say(type="interrupt")
        asked = monotonic()
        await until(lambda: len(watcher.of("playback.finished")) == 3, "it is quiet", within_s=20)
        told = monotonic()
        assert watcher.of("playback.finished")[2]["interrupted"] is True
        await until(lambda: len([at for at, _ in watcher.sound if at > told]) > 20, "silence is heard")
        loud = [at for at, frame in watcher.sound if np.abs(frame.to_ndarray()).max() > 500]
        print(
            f"interrupted: told after {1000 * (told - asked):.0f} ms, last sound {1000 * (max(loud) - asked):.0f} ms"
        )
        assert max(loud) - asked < 1.5

        second_viewer = await site.watch(watcher.link("urn:headrace:session"))
        await until(lambda: second_viewer.frames, "another one sees it, from a keyframe on", within_s=20)
        await second_viewer.close()
        await watcher.close()
        await until(
            lambda: not site.gauge("headrace_avatar_sessions") and site.edge.idle, "all is given back", within_s=20
        )
        _, offer = await site.offer()
        missing = await site.http.post("/v1/avatars/nobody/whep", content=offer, headers=OFFER)
        assert missing.status_code == 404
