"""The page before the real compositor, its drawn face and the inference server: lips and voice in a real Chromium."""

from __future__ import annotations

import statistics
import urllib.request
from collections.abc import Iterator

import pytest

from tests.support.browser import ChatPage
from tests.support.face import fits_of, record, show
from tests.support.realface import FaceSite, real_face
from tests.support.sound import pcm, speech

pytestmark = [pytest.mark.browser, pytest.mark.alone]
RATE = 16_000
#: The middle of the drawn mouth, which is dark inside.
MOUTH = (slice(146, 158), slice(124, 132))
MINE = '[[avatars]]\nid = "anna"\nwidth = 256\nheight = 256\nbitrate_bps = 300000\n[speech]\nespeak = false\n'


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FaceSite]:
    with real_face(tmp_path_factory.mktemp("real-face"), MINE) as found:
        yield found


def test_lips_follow_the_voice_and_rest_in_silence(chat: ChatPage, gateway: FaceSite):
    page = chat.page
    show(page)
    session = page.evaluate("() => window.headraceFace.avatar.session.session")

    def play(seconds: float) -> None:
        request = urllib.request.Request(
            f"{gateway.edge_url}/v1/avatars/{session}/sound",
            data=pcm(speech(seconds, RATE)),
            headers={"content-type": f"audio/l16;rate={RATE}"},
        )
        with urllib.request.urlopen(request, timeout=10) as answer:
            assert answer.status == 202

    # The first mouths of a model are slow: they are not what is measured.
    play(0.8)
    chat.until("document.querySelector('#face').hasAttribute('data-speaking')")
    chat.until("!document.querySelector('#face').hasAttribute('data-speaking')")
    play(4.0)
    chat.until("document.querySelector('#face').hasAttribute('data-speaking')")
    recording = record(page, MOUTH, 3_000)
    fits = fits_of(recording.dark(), 600, 2_900)
    fit, lag = statistics.median(fit for fit, _ in fits), statistics.median(lag for _, lag in fits)
    print(f"\nreal face: mouth and voice: correlation {fit:.2f}, sound {lag:.0f} ms behind the picture")
    assert fit >= 0.8
    chat.until("!document.querySelector('#face').hasAttribute('data-speaking')")
    still = record(page, MOUTH, 1_500)
    levels = [level for at, level in still.mouth if at > 500]
    assert max(levels) - min(levels) < 25, "the mouth rests"
    assert max(level for at, level in still.voice if at > 500) < 0.02, "nothing is heard"
