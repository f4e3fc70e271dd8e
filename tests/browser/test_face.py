"""The face beside the chat, in a real Chromium: seen, heard and hushed, and over a WebSocket where it must be."""

from __future__ import annotations

import statistics
import sys
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from playwright.sync_api import expect

from tests.support.browser import DESKTOP, ChatPage, Open, Watch
from tests.support.face import fits_of, record, show
from tests.support.processes import running
from tests.support.rig import rig

pytestmark = [pytest.mark.browser, pytest.mark.alone]
#: Rows and columns inside the simulator's mouth.
MOUTH = (slice(155, 185), slice(115, 205))

STATS = """async () => {
  const pc = window.headraceFace.avatar.peer;
  const found = {};
  for (const row of (await pc.getStats()).values()) {
    if (row.type === "inbound-rtp") {
      const codec = (await pc.getStats()).get(row.codecId);
      found[row.kind] = {
        codec: codec.mimeType,
        frames: row.framesDecoded,
        bufferMs: (1000 * row.jitterBufferDelay) / row.jitterBufferEmittedCount,
        playing: row.estimatedPlayoutTimestamp,
      };
    }
  }
  return found;
}"""


@dataclass
class FaceSite:
    edge_url: str


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FaceSite]:
    """A gateway with avatars: what `watched` and `chat` open."""
    folder = tmp_path_factory.mktemp("face")
    ready = folder / "compositor.json"
    command = [
        sys.executable, "-m", "simulator.compositor", "--ready-file", str(ready), "--ms-per-char", "30",
    ]  # fmt: skip
    with (
        running(command, folder, name="compositor", ready_file=ready) as compositor,
        rig(
            folder,
            {"alpha": {"itl_ms": 5.0}},
            edge={"avatars.compositor_url": compositor.ready()["url"], "avatars.resume_ms": 1_000},
        ) as found,
    ):
        yield FaceSite(found.url)


@pytest.fixture
def face(chat: ChatPage) -> ChatPage:
    """The chat page; its face is there unasked, live, and heard from the first gesture on."""
    show(chat.page)
    return chat


def speak(chat: ChatPage, text: str) -> None:
    chat.page.evaluate("(text) => window.headraceFace.avatar.say(text)", text)


def correlation(one: list[float], other: list[float]) -> float:
    mean = [sum(series) / len(series) for series in (one, other)]
    pairs = [(a - mean[0], b - mean[1]) for a, b in zip(one, other, strict=True)]
    norm = (sum(a * a for a, _ in pairs) * sum(b * b for _, b in pairs)) ** 0.5
    return sum(a * b for a, b in pairs) / norm if norm else 0.0


def test_it_is_seen_heard_and_captioned(face: ChatPage):
    page = face.page
    face.until("document.querySelector('#face video')?.getVideoPlaybackQuality().totalVideoFrames > 10")
    stats = page.evaluate(STATS)
    assert stats["video"]["codec"] == "video/H264"
    assert stats["audio"]["codec"] == "audio/opus"
    caption = page.locator("#face .caption")
    speak(face, "One two three four five six seven. Eight nine ten eleven twelve thirteen fourteen fifteen.")
    expect(caption).to_have_text("One two three four five six seven.")
    expect(page.locator("#face")).to_have_attribute("data-speaking", "")
    recording = record(page, MOUTH, 2_500)
    fits = fits_of(recording, 500, 2_300)
    fit, lag = statistics.median(fit for fit, _ in fits), statistics.median(lag for _, lag in fits)
    buffers = {kind: round(row["bufferMs"]) for kind, row in page.evaluate(STATS).items()}
    print(f"\nmouth and voice: correlation {fit:.2f}, sound {lag:.0f} ms behind the picture, buffers {buffers} ms")
    assert fit >= 0.8
    expect(caption).to_have_text("")
    # What was in the browser's buffers is heard out first.
    still = record(page, MOUTH, 1_200)
    assert max(level for at, level in still.mouth if at > 500) < 70, "the mouth is shut"
    assert max(level for at, level in still.voice if at > 500) < 0.02, "nothing is heard"


def test_an_answer_is_spoken_and_hushed(face: ChatPage):
    page = face.page
    face.send("Tell me a story")
    face.wait_for_text()
    expect(page.locator("#face .caption")).not_to_have_text("")
    expect(page.locator("#face")).to_have_attribute("data-speaking", "")
    recording = record(page, MOUTH, 1_800, "#face .hush", 600)
    seen = max(at for at, level in recording.mouth if level > 80) - recording.pressed_ms
    heard = max(at for at, level in recording.voice if level > 0.02) - recording.pressed_ms
    print(f"\nhushed: the last picture of speech {seen:.0f} ms later, the last sound {heard:.0f} ms")
    assert max(seen, heard) < 1_000
    expect(page.locator("#face .caption")).to_have_text("")
    face.answer_is("stopped")
    assert page.evaluate("() => window.headraceFace.avatar.live")


def test_without_webrtc_it_comes_over_a_websocket(watched: tuple[Open, Watch]):
    open_page, watch = watched
    page = open_page(DESKTOP)
    page.add_init_script("delete window.RTCPeerConnection")
    chat = ChatPage(page, watch)
    chat.open()
    show(page)
    expect(page.locator("#face .status")).to_have_text("Live over WebSocket")
    chat.until("document.querySelector('#face canvas')?.width === 320")
    speak(chat, "Hello over there.")
    expect(page.locator("#face .caption")).to_have_text("Hello over there.")
    expect(page.locator("#face .caption")).to_have_text("")
    page.get_by_role("button", name="Close the face").click()
    expect(page.locator("#face")).to_be_hidden()
