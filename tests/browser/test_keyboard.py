"""Everything without a mouse, and what assistive technology is told."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from tests.support.browser import ChatPage

pytestmark = pytest.mark.browser


def test_a_whole_conversation_needs_only_keys(chat: ChatPage) -> None:
    keys = chat.page.keyboard
    expect(chat.message).to_be_focused()
    keys.type("First line")
    keys.press("Shift+Enter")
    keys.type("second line")
    expect(chat.message).to_have_value("First line\nsecond line")
    keys.press("Enter")
    expect(chat.message).to_have_value("")
    chat.answer_is("complete")
    expect(chat.page.locator(".said")).to_have_text("First line\nsecond line")

    keys.press("ArrowUp")
    expect(chat.message).to_have_value("First line\nsecond line")
    expect(chat.page.get_by_text("Editing:")).to_be_visible()
    keys.press("Escape")
    expect(chat.message).to_have_value("")
    expect(chat.page.get_by_text("Editing:")).to_be_hidden()

    keys.press("ArrowUp")
    keys.press("ControlOrMeta+a")
    keys.type("Anew")
    keys.press("Enter")
    expect(chat.page.locator(".said")).to_have_text(["Anew"])
    chat.answer_is("complete")

    keys.press("ControlOrMeta+Shift+O")
    expect(chat.exchanges).to_have_count(0)
    expect(chat.message).to_be_focused()


def test_slash_goes_to_the_composer_but_types_a_slash_inside_it(chat: ChatPage) -> None:
    chat.page.evaluate("document.activeElement.blur()")
    chat.page.keyboard.press("/")
    expect(chat.message).to_be_focused()
    expect(chat.message).to_have_value("")
    chat.page.keyboard.press("/")
    expect(chat.message).to_have_value("/")


def test_enter_waits_while_an_answer_streams_and_the_draft_stays(chat: ChatPage) -> None:
    chat.simulate("tokens=3000,itl_ms=20")
    chat.send("A long story, please.")
    chat.wait_for_text()
    chat.page.keyboard.type("Next thought")
    chat.page.keyboard.press("Enter")
    expect(chat.message).to_have_value("Next thought")
    expect(chat.exchanges).to_have_count(1)
    chat.page.keyboard.press("Escape")
    chat.answer_is("stopped")
    expect(chat.message).to_have_value("Next thought")


def test_tab_reaches_every_control_with_a_visible_focus(chat: ChatPage) -> None:
    chat.send("Hello")
    chat.answer_is("complete")
    seen = []
    chat.page.evaluate("document.activeElement.blur()")
    for _ in range(40):
        chat.page.keyboard.press("Tab")
        if chat.page.evaluate("document.activeElement === document.body"):
            continue
        name, ring = chat.page.evaluate(
            """() => {
              const node = document.activeElement;
              const box = node.tagName === "TEXTAREA" ? node.closest("form") : node;
              const style = getComputedStyle(box);
              const plain = getComputedStyle(document.body).borderColor;
              const ring = style.outlineStyle !== "none" || style.borderColor !== plain;
              return [node.getAttribute("aria-label") || node.id || node.innerText, ring];
            }"""
        )
        if name in seen:
            break
        assert ring, name
        seen.append(name)
    for control in ("model", "New chat", "Copy message", "Edit message", "Copy answer", "Regenerate", "Message"):
        assert control in seen, seen


def test_the_end_of_an_answer_is_announced_once_and_politely(chat: ChatPage) -> None:
    chat.page.evaluate(
        """() => {
          window.said = [];
          const news = document.querySelector("[role=status]");
          new MutationObserver(() => said.push(news.textContent)).observe(news, { childList: true });
        }"""
    )
    expect(chat.news).to_have_attribute("aria-live", "polite")
    chat.send("Hello")
    answer = chat.answer_is("complete")
    expect(answer).to_have_attribute("aria-busy", "false")
    said = chat.page.evaluate("said")
    assert len(said) == 1
    assert said[0].startswith("Answer complete, ")
