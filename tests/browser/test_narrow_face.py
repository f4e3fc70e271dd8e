"""A face behind a narrow network, in a real Chromium: it takes what comes through, and recovers."""

from __future__ import annotations

from collections.abc import Iterator
from time import sleep

import pytest
from playwright.sync_api import Route, expect

from tests.support.browser import DESKTOP, Open, Watch
from tests.support.narrow import NarrowLink, narrow_link
from tests.support.processes import until
from tests.support.realface import FaceSite, real_face

#: It judges what a real link does in real time, so it is no test for a machine that others use.
pytestmark = [pytest.mark.browser, pytest.mark.alone, pytest.mark.long]
MINE = '[[avatars]]\nid = "anna"\nbitrate_bps = 800_000\n[speech]\nespeak = false\n'
WIDE = 20_000_000
#: How far it narrows, of what is sent.
PART = 0.7
STATS = """async () => {
  for (const row of (await window.headraceFace.avatar.peer.getStats()).values())
    if (row.type === "inbound-rtp" && row.kind === "video") return [row.framesDecoded, row.totalFreezesDuration];
}"""


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FaceSite]:
    with real_face(tmp_path_factory.mktemp("narrow-face"), MINE) as found:
        yield found


def through(link: NarrowLink, route: Route) -> None:
    """Send a viewer's media through a link; its signalling goes as always."""
    if route.request.method != "POST":
        route.continue_()
        return
    offer = "".join(
        line
        for line in (route.request.post_data or "").splitlines(keepends=True)
        if not line.startswith("a=candidate:")
    )
    answer = route.fetch(post_data=offer)
    route.fulfill(response=answer, body=link.answer(answer.text()))


@pytest.mark.timeout(180)
@pytest.mark.parametrize("queue_s", [0.1, 0.5], ids=["what-queues-is-lost", "what-queues-is-late"])
def test_pictures_take_what_comes_through_and_recover(watched: tuple[Open, Watch], queue_s: float):
    open_page, _ = watched
    page = open_page(DESKTOP)
    with narrow_link(WIDE, queue_s=queue_s) as link:
        page.route("**/whep*", lambda route: through(link, route))
        page.goto("/")
        expect(page.locator("#face")).to_have_attribute("data-state", "live")

        def seen(seconds: float) -> tuple[float, float]:
            """Return pictures a second, and the seconds for which they froze."""
            frames, frozen = page.evaluate(STATS)
            sleep(seconds)  # what is measured is time
            now, still = page.evaluate(STATS)
            return (now - frames) / seconds, still - frozen

        seen(5.0)
        wide_bps = link.rate_bps(3.0)
        link.bits_per_s = wide_bps * PART
        _, froze_s = seen(9.0)
        narrow_fps, frozen_s = seen(4.0)
        narrow_bps, lost = link.rate_bps(4.0), link.dropped
        link.bits_per_s = WIDE
        until(lambda: link.rate_bps(3.0) > wide_bps * 0.9, ms=60_000, what="it is as it was")
        print(
            f"\nnarrow link, a queue of {queue_s:g} s: {wide_bps / 1000:.0f} kbit/s, narrowed to"
            f" {wide_bps * PART / 1000:.0f}: frozen for {froze_s:.1f} s, {lost} packets lost; then"
            f" {narrow_bps / 1000:.0f} kbit/s, {narrow_fps:.1f} pictures/s; and as before once it is wide"
        )
        # By then it is seen again; how well is what is printed.
        assert narrow_fps > 10
        assert frozen_s < 3.0
        page.close()
