"""Themes, widths, contrast, motion, scrolling; and pictures of it all in the test's temporary folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import expect

from tests.support.browser import DESKTOP, PHONE, ChatPage, Open, Watch, chunk, sse

pytestmark = pytest.mark.browser

RICH = """A **water wheel** turns falling water into *work*, at `m·g·h` per second.

## How

1. The headrace brings the stream.
   - It is level.
2. Each bucket fills.

```python
print("steady")
```

| Wheel | Head |
|:--|--:|
| Overshot | 3 m |

> Steady water, steady wheel.
"""


def open_chat(watched: tuple[Open, Watch], size: tuple[int, int] = DESKTOP, **options: Any) -> ChatPage:
    open_page, watch = watched
    chat = ChatPage(open_page(size, **options), watch)
    chat.open()
    return chat


def background(chat: ChatPage) -> str:
    return str(chat.page.evaluate("getComputedStyle(document.body).backgroundColor"))


def test_the_theme_follows_the_system_until_it_is_chosen(watched: tuple[Open, Watch]) -> None:
    chat = open_chat(watched, color_scheme="light")
    light = background(chat)
    chat.page.emulate_media(color_scheme="dark")
    dark = background(chat)
    assert dark != light
    chat.page.get_by_role("button", name="Use the light theme").click()
    assert background(chat) == light
    chat.page.reload()
    assert background(chat) == light
    chat.page.get_by_role("button", name="Use the dark theme").click()
    chat.page.emulate_media(color_scheme="light")
    assert background(chat) == dark


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_text_has_the_contrast_of_wcag_aa(watched: tuple[Open, Watch], theme: Any) -> None:
    chat = open_chat(watched, color_scheme=theme)
    ratios = chat.page.evaluate(
        """() => {
          const probe = document.body.appendChild(document.createElement("i"));
          const light = (name) => {
            probe.style.color = `var(--${name})`;
            const parts = getComputedStyle(probe).color.match(/[\\d.]+/g).slice(0, 3).map((v) => v / 255);
            const [r, g, b] = parts.map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4));
            return 0.2126 * r + 0.7152 * g + 0.0722 * b;
          };
          const pairs = {};
          const pair = (ink, paper) => {
            const [a, b] = [light(ink), light(paper)];
            pairs[`${ink} on ${paper}`] = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
          };
          for (const paper of ["page", "surface"]) {
            for (const ink of ["ink", "soft", "faint", "water", "warn"]) pair(ink, paper);
          }
          pair("ink", "water-wash"); pair("ink", "sunk"); pair("on-water", "water"); pair("on-water", "water-deep");
          pair("ink", "warn-wash"); pair("soft", "warn-wash"); pair("warn", "warn-wash");
          return pairs;
        }"""
    )
    assert {pair: ratio for pair, ratio in ratios.items() if ratio < 4.5} == {}


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_nothing_sticks_out_and_pictures_are_taken(
    watched: tuple[Open, Watch], tmp_path: Path, size: tuple[int, int], theme: Any
) -> None:
    phone = size == PHONE
    chat = open_chat(watched, size, color_scheme=theme, is_mobile=phone, has_touch=phone, device_scale_factor=2)

    def picture(name: str) -> None:
        # Following the text may scroll in the next frame, and a picture must not be cut in between.
        chat.page.evaluate("() => new Promise((r) => requestAnimationFrame(() => requestAnimationFrame(r)))")
        path = tmp_path / f"{name}.png"
        chat.page.screenshot(path=path)
        assert path.stat().st_size > 10_000
        assert chat.page.evaluate("document.documentElement.scrollWidth <= innerWidth")

    picture("empty")
    chat.inject(
        sse(
            chunk(role="assistant"),
            *(chunk(part) for part in RICH.split(" ") for part in (part, " ")),
            chunk(finish="stop"),
        )
    )
    chat.send("How does a water wheel turn falling water into work?")
    chat.answer_is("complete")
    picture("answer")
    chat.simulate("tokens=3000,itl_ms=20")
    chat.send("And now a long one.")
    chat.wait_for_text()
    picture("streaming")
    chat.page.keyboard.press("Escape")
    chat.inject(chat.refuse(429, "Every slot is taken by other streams.", Retry_After="30"))
    chat.send("Again")
    expect(chat.notice).to_be_visible()
    picture("saturated")
    chat.page.keyboard.press("Escape")
    chat.inject(sse(chunk(role="assistant"), chunk("The wheel turns and"), done=False))
    chat.send("Again")
    expect(chat.notice).to_contain_text("ended early")
    picture("truncated")


def test_reduced_motion_stills_the_page(watched: tuple[Open, Watch]) -> None:
    chat = open_chat(watched, reduced_motion="reduce")
    chat.simulate("tokens=3000,itl_ms=20")
    chat.send("A long story, please.")
    chat.wait_for_text()
    assert chat.page.evaluate("document.getAnimations().length") == 0


def test_the_page_follows_the_text_until_the_reader_scrolls_up(chat: ChatPage) -> None:
    chat.page.set_viewport_size({"width": 800, "height": 420})
    chat.simulate("tokens=3000,itl_ms=8")
    chat.send("A long story, please.")
    chat.until("scrollY > 300")
    expect(chat.jump).to_be_hidden()
    chat.page.mouse.move(300, 150)
    chat.page.mouse.wheel(0, -250)
    expect(chat.jump).to_be_visible()
    # The wheel's own motion may be animated: wait until the page is at rest.
    chat.until("(window.rest = scrollY === window.at ? (window.rest ?? 0) + 1 : 0, window.at = scrollY, rest > 12)")
    before, height = chat.page.evaluate("[scrollY, document.documentElement.scrollHeight]")
    chat.until(f"document.documentElement.scrollHeight > {height + 60}")
    assert chat.page.evaluate("scrollY") == before
    chat.jump.click()
    expect(chat.jump).to_be_hidden()
    height = chat.page.evaluate("document.documentElement.scrollHeight")
    chat.until(f"document.documentElement.scrollHeight > {height + 60}")
    assert chat.page.evaluate("document.documentElement.scrollHeight - innerHeight - scrollY") < 40


def test_the_composer_grows_with_its_text_up_to_a_bound(chat: ChatPage) -> None:
    def height() -> float:
        box = chat.message.bounding_box()
        assert box
        return box["height"]

    one = height()
    chat.message.fill("a\nb\nc\nd")
    four = height()
    assert four > 2.5 * one
    chat.message.fill("line\n" * 200)
    assert four < height() <= 0.45 * DESKTOP[1]


def test_the_page_is_served_under_a_policy_that_allows_nothing_else(chat: ChatPage) -> None:
    for path in ("/", "/assets/app.js"):
        response = chat.page.request.get(path)
        assert response.headers.get("etag")
    policy = chat.page.request.get("/").headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    blocked = chat.page.evaluate(
        """() => new Promise((resolve) => {
          document.addEventListener("securitypolicyviolation", (event) => resolve(event.effectiveDirective));
          const script = document.createElement("script");
          script.textContent = "window.ran = true";
          document.head.append(script);
        })"""
    )
    assert blocked == "script-src-elem"
    assert chat.page.evaluate("window.ran") is None
    chat.watch.expected.append("Content Security Policy")
