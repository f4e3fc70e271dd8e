"""The face beside the chat, in a real Chromium: seen, heard and hushed, and over a WebSocket where it must be."""

from __future__ import annotations

import io
import itertools
import statistics
import sys
from collections.abc import Iterator
from dataclasses import dataclass

import av
import pytest
from playwright.sync_api import Route, expect

from tests.support.browser import DESKTOP, PHONE, ChatPage, Open, Watch
from tests.support.face import fits_of, record, show
from tests.support.processes import running, until
from tests.support.rig import Rig, rig

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
    edge: Rig


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
        yield FaceSite(found.url, found)


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


def test_where_no_way_is_found_nothing_is_kept_at_the_gateway(watched: tuple[Open, Watch], gateway: FaceSite):
    open_page, watch = watched
    watch.expected.append("ICE")
    page = open_page(DESKTOP)

    def hidden(route: Route) -> None:
        """Answer an offer without saying where; let the rest pass."""
        if route.request.method != "POST":
            route.continue_()
            return
        answer = route.fetch()
        lines = answer.text().splitlines(keepends=True)
        route.fulfill(response=answer, body="".join(line for line in lines if not line.startswith("a=candidate:")))

    page.route("**/whep*", hidden)
    with page.expect_response(lambda response: response.request.method == "DELETE", timeout=20_000) as left:
        page.goto("/")
    assert left.value.status == 200
    expect(page.locator("#face .status")).to_have_text("Live over WebSocket")
    until(
        lambda: gateway.edge.metric("headrace_avatar_viewers", transport="webrtc") == 0,
        what="only the socket is left",
    )
    assert gateway.edge.metric("headrace_avatar_reaped_total", why="unconnected") == 1


def contrast(png: bytes) -> int:
    """Return by how much the lightest and the darkest pixel of a picture differ, of 255."""
    with av.open(io.BytesIO(png), mode="r") as file:
        (frame,) = file.decode(video=0)
    grey = frame.to_ndarray(format="gray").astype(int)
    return int(grey.max() - grey.min())


BOXES = """(names) => Object.fromEntries(names.map((name) => {
  const { left, top, right, bottom } = document.querySelector(name).getBoundingClientRect();
  return [name, { left, top, right, bottom }];
}))"""


@pytest.mark.parametrize("size", [DESKTOP, (768, 500), PHONE, (320, 568)], ids=str)
def test_it_hides_nothing_of_an_empty_page(watched: tuple[Open, Watch], size: tuple[int, int]) -> None:
    open_page, watch = watched
    chat = ChatPage(open_page(size), watch)
    chat.open()
    show(chat.page)
    # A name as long as models have.
    chat.page.evaluate("document.querySelector('#model option').textContent = 'qwen3-235b-a22b-instruct-2507-fp8'")
    assert chat.page.evaluate("[scrollY, document.documentElement.scrollWidth <= innerWidth]") == [0, True]
    found = chat.page.evaluate(BOXES, [".top h1", "#model", "#show-face", "#new", "#theme", "#face", "#welcome h2"])
    row = [found[name] for name in (".top h1", "#model", "#show-face", "#new", "#theme")]
    assert all(left["right"] <= right["left"] for left, right in itertools.pairwise(row))
    assert row[-1]["right"] <= size[0]
    face, heading = found["#face"], found["#welcome h2"]
    beside = face["right"] <= heading["left"]
    assert beside is (size == DESKTOP)
    assert beside or face["bottom"] <= heading["top"]
    assert heading["bottom"] <= size[1]


def test_a_caption_leaves_the_mouth_free(watched: tuple[Open, Watch]) -> None:
    open_page, watch = watched
    page = open_page(PHONE)
    ChatPage(page, watch).open()
    show(page)
    page.evaluate(
        "(text) => window.headraceFace.avatar.say(text)", "One two three four five six seven eight nine ten."
    )
    expect(page.locator("#face .caption")).not_to_have_text("")
    found = page.evaluate(BOXES, ["#face", "#face .caption", "#face video"])
    video, face = found["#face video"], found["#face"]
    assert video["bottom"] <= face["bottom"]
    # What does not fit is cut above and below; the lips of a square picture end at two thirds.
    side = video["right"] - video["left"]
    cut = 0.6 * (side - (video["bottom"] - video["top"]))
    assert found["#face .caption"]["top"] > video["top"] - cut + side * 0.67


def test_lines_that_scroll_under_it_are_not_seen_beside_it(watched: tuple[Open, Watch]) -> None:
    open_page, watch = watched
    page = open_page((820, 900))
    chat = ChatPage(page, watch)
    chat.open()
    show(page)
    chat.simulate("tokens=400,itl_ms=1")
    page.get_by_role("button", name="Close the face").click()
    chat.send("A story, please.")
    chat.answer_is("complete")
    page.get_by_role("button", name="Show the face").click()
    expect(page.locator("#face")).to_have_attribute("data-state", "live")
    chat.until("scrollY > 200")
    face = page.evaluate(BOXES, ["#face"])["#face"]
    x = face["left"] - 110
    beside = page.screenshot(clip={"x": x, "y": face["top"] + 20, "width": 60, "height": 200})
    below = page.screenshot(clip={"x": x, "y": face["bottom"] + 40, "width": 60, "height": 200})
    assert contrast(below) > 100, "lines are there, further down"
    assert contrast(beside) < 12


@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=str)
def test_a_refusal_is_read_whole_and_tried_again(watched: tuple[Open, Watch], size: tuple[int, int]) -> None:
    open_page, watch = watched
    page = open_page(size)
    said = "Every seat is taken by other viewers of this tenant; come back in 30 s."
    refusal = {"error": {"message": said, "type": "rate_limit", "code": "at_capacity", "param": None}}
    page.route("**/whep*", lambda route: route.fulfill(status=429, json=refusal, headers={"retry-after": "30"}))
    watch.expected.append("429")
    ChatPage(page, watch).open()
    expect(page.locator("#face")).to_have_attribute("data-state", "failed")
    expect(page.locator("#face .status")).to_contain_text(said)
    # Nothing to mute, and the way out does not lie over the words.
    expect(page.get_by_role("button", name="Mute", exact=True)).to_be_hidden()
    status, away = (page.locator(name).bounding_box() for name in ("#face .status", "#face .controls"))
    assert status is not None
    assert away is not None
    assert status["x"] + status["width"] <= away["x"]
    page.unroute("**/whep*")
    page.get_by_role("button", name="Try again").click()
    expect(page.locator("#face")).to_have_attribute("data-state", "live")
