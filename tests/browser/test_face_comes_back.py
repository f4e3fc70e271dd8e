"""The face in a real Chromium whose way for media is cut in the middle of what is said: it comes back by itself."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from playwright.sync_api import Route, expect

from tests.support.browser import ChatPage, Open, Watch
from tests.support.face import show
from tests.support.processes import running
from tests.support.rig import rig
from tests.support.timing import FACTOR
from tests.support.udp_path import Beside, udp_path_beside

pytestmark = [pytest.mark.browser, pytest.mark.alone]
SENTENCES = [f"This is the {number} sentence of them." for number in ("first", "second", "third", "fourth", "fifth")]
#: Notes whatever is shown, in order.
NOTE = """() => {
  window.shown = { captions: [], states: [], words: [] };
  const note = (list, value) => value && list.at(-1) !== value && list.push(value);
  const face = document.querySelector("#face");
  new MutationObserver(() => {
    note(window.shown.captions, face.querySelector(".caption").textContent);
    note(window.shown.states, face.dataset.state);
    note(window.shown.words, face.querySelector(".status").textContent);
  }).observe(face, { subtree: true, childList: true, characterData: true, attributes: true });
}"""
FRAMES = "document.querySelector('#face video')?.getVideoPlaybackQuality().totalVideoFrames"


@dataclass
class FaceSite:
    edge_url: str


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FaceSite]:
    folder = tmp_path_factory.mktemp("face-back")
    ready = folder / "compositor.json"
    command = [
        sys.executable, "-m", "simulator.compositor", "--ready-file", str(ready), "--ms-per-char", "50",
    ]  # fmt: skip
    with (
        running(command, folder, name="compositor", ready_file=ready) as compositor,
        rig(folder, {"alpha": {}}, edge={"avatars.compositor_url": compositor.ready()["url"]}) as found,
    ):
        yield FaceSite(found.url)


@pytest.fixture
def path() -> Iterator[Beside]:
    with udp_path_beside() as path:
        yield path


def test_a_cut_in_mid_speech_loses_no_caption_and_shows_none_twice(watched: tuple[Open, Watch], path: Beside):
    open_page, watch = watched
    page = open_page()

    def through(route: Route) -> None:
        answer = route.fetch()
        route.fulfill(response=answer, body=path.through(answer.text()))

    page.route("**/whep*", through)
    chat = ChatPage(page, watch)
    chat.open()
    show(page)
    chat.until(f"{FRAMES} > 5")
    session = page.evaluate("() => window.headraceFace.avatar.session.session")
    page.evaluate(NOTE)
    page.evaluate("(text) => window.headraceFace.avatar.say(text)", " ".join(SENTENCES))
    caption = page.locator("#face .caption")
    expect(caption).to_have_text(SENTENCES[1])
    path.cut()
    # It is back so soon that whoever looks now and then does not see that it was away.
    chat.until("window.shown.states.at(-1) === 'live' && window.shown.states.includes('back')")
    chat.until(f"{FRAMES} > 5")
    expect(caption).to_have_text(SENTENCES[-1], timeout=20_000 * FACTOR)
    expect(caption).to_have_text("", timeout=10_000 * FACTOR)
    shown = page.evaluate("() => window.shown")
    assert shown["captions"] == SENTENCES
    assert shown["states"] == ["live", "back", "live"]
    assert shown["words"] == ["Live", "Connection lost, coming back", "Live"]
    expect(chat.news).to_have_text("Connection to the face lost, coming back.")
    assert page.evaluate("() => window.headraceFace.avatar.session.session") == session
    assert page.evaluate("() => window.headraceFace.avatar.transport") == "webrtc"
