"""Talking to the real gateway through the page."""

from __future__ import annotations

import json
import re

import pytest
from playwright.sync_api import expect

from tests.support.browser import ChatPage

pytestmark = pytest.mark.browser


def content(body: str) -> str:
    """Join the text of an event stream."""
    payloads = [line.removeprefix("data: ") for line in body.splitlines() if line.startswith("data: ")]
    assert payloads[-1] == "[DONE]"
    chunks = [json.loads(payload) for payload in payloads[:-1]]
    return "".join(choice["delta"].get("content") or "" for each in chunks for choice in each.get("choices") or [])


def test_an_answer_streams_in_and_is_what_the_api_said(chat: ChatPage) -> None:
    chat.page.evaluate(
        """() => {
          const real = fetch;
          window.fetch = async (...request) => {
            const response = await real(...request);
            window.wire = response.clone().text();
            return response;
          };
        }"""
    )
    chat.simulate("tokens=150,itl_ms=10")
    with chat.page.expect_request("**/v1/chat/completions") as request:
        chat.send("Tell me about rivers.")
    chat.wait_for_text()
    assert chat.answers.last.get_attribute("data-status") == "streaming"
    answer = chat.answer_is("complete")
    said = content(chat.page.evaluate("wire"))
    assert said
    assert chat.copied(answer.get_by_role("button", name="Copy answer")) == said
    expect(answer.locator(".prose")).to_contain_text(" ".join(re.findall(r"\w+", said)[:1]))
    asked = json.loads(request.value.post_data or "")
    assert asked["stream_options"] == {"include_usage": True}
    assert asked["messages"] == [{"role": "user", "content": "Tell me about rivers."}]


def test_the_strip_shows_latency_gaps_rate_tokens_and_who_served(chat: ChatPage) -> None:
    chat.simulate("tokens=150,itl_ms=10")
    chat.send("How fast are you?")
    chat.wait_for_text()
    expect(chat.strip).to_have_attribute("data-live", "")
    chat.answer_is("complete")
    expect(chat.strip).not_to_have_attribute("data-live", "")
    duration = re.compile(r"^\d+(\.\d)? m?s$")
    for name in ("ttft", "p50", "p99"):
        expect(chat.metric(name)).to_have_text(duration)
    expect(chat.metric("rate")).to_have_text(re.compile(r"^\d+(\.\d)?$"))
    expect(chat.metric("tokens")).to_have_text(re.compile(r"^\d+\s*\d+ in, \d+ out$"))
    expect(chat.sparkline).to_have_attribute("aria-label", re.compile(r"^Gaps between arrivals: median \d"))
    assert int(chat.sparkline.get_attribute("data-points") or 0) > 5
    expect(chat.strip.locator(".served dd")).to_have_text(re.compile(r"\w"))
    expect(chat.strip.get_by_text("simulated")).to_be_visible()


def test_the_picker_lists_the_gateways_models_and_remembers_the_choice(chat: ChatPage) -> None:
    models = chat.page.evaluate("fetch('/v1/models').then((r) => r.json()).then((b) => b.data.map((m) => m.id))")
    expect(chat.picker.locator("option")).to_have_text(models)
    chat.picker.select_option(models[-1])
    with chat.page.expect_request("**/v1/chat/completions") as asked:
        chat.send("Hello")
    assert json.loads(asked.value.post_data or "")["model"] == models[-1]
    chat.answer_is("complete")
    chat.page.reload()
    expect(chat.picker).to_have_value(models[-1])


@pytest.mark.parametrize("how", ["button", "escape"])
def test_stop_ends_the_stream_and_keeps_what_arrived(chat: ChatPage, how: str) -> None:
    chat.simulate("tokens=3000,itl_ms=20")
    chat.send("A long story, please.")
    chat.wait_for_text()
    with chat.page.expect_event("requestfailed") as ended:
        if how == "button":
            chat.stop_button.click()
        else:
            chat.page.keyboard.press("Escape")
    assert ended.value.url.endswith("/v1/chat/completions")
    assert ended.value.failure == "net::ERR_ABORTED"
    answer = chat.answer_is("stopped")
    expect(answer.get_by_text("Stopped.")).to_be_visible()
    expect(answer.locator(".prose")).not_to_be_empty()
    expect(chat.send_button).to_be_visible()
    expect(chat.notice).to_have_count(0)


def test_the_next_question_carries_the_conversation(chat: ChatPage) -> None:
    chat.send("First")
    first = chat.copied(chat.answer_is("complete").get_by_role("button", name="Copy answer"))
    with chat.page.expect_request("**/v1/chat/completions") as asked:
        chat.send("Second")
    assert json.loads(asked.value.post_data or "")["messages"] == [
        {"role": "user", "content": "First"},
        {"role": "assistant", "content": first},
        {"role": "user", "content": "Second"},
    ]
    chat.answer_is("complete")
    expect(chat.exchanges).to_have_count(2)


def test_regenerate_asks_again_in_place(chat: ChatPage) -> None:
    chat.send("Once more")
    chat.answer_is("complete")
    with chat.page.expect_request("**/v1/chat/completions") as asked:
        chat.page.get_by_role("button", name="Regenerate").click()
    assert json.loads(asked.value.post_data or "")["messages"] == [{"role": "user", "content": "Once more"}]
    chat.answer_is("complete")
    expect(chat.exchanges).to_have_count(1)


def test_editing_a_message_replaces_what_followed_it(chat: ChatPage) -> None:
    for question in ("One", "Two"):
        chat.send(question)
        chat.answer_is("complete")
    first = chat.exchanges.first
    first.hover()
    first.get_by_role("button", name="Edit message").click()
    expect(chat.message).to_have_value("One")
    chat.send("Uno")
    chat.answer_is("complete")
    expect(chat.page.locator(".said")).to_have_text(["Uno"])


def test_a_reload_keeps_the_conversation_and_reads_on_where_it_was(chat: ChatPage) -> None:
    chat.send("Keep this")
    chat.answer_is("complete")
    chat.simulate("tokens=200,itl_ms=20,seed=7")
    with chat.page.expect_request("**/v1/chat/completions") as asked:
        chat.send("And this")
    chat.wait_for_text()
    chat.page.reload()
    expect(chat.page.locator(".said")).to_have_text(["Keep this", "And this"])
    chat.answer_is("complete", 0)
    answer = chat.answer_is("complete", 1)
    whole = chat.copied(answer.get_by_role("button", name="Copy answer"))
    assert whole == chat.whole_answer(asked.value, "tokens=200,seed=7")
    expect(chat.metric("ttft")).to_be_visible()


def test_a_reload_marks_an_answer_that_nobody_keeps(chat: ChatPage) -> None:
    chat.page.add_init_script(
        """const real = window.fetch;
        window.fetch = (url, init = {}) => {
          const headers = { ...init.headers };
          delete headers["X-Headrace-Resume"];
          return real(url, { ...init, headers });
        };"""
    )
    chat.page.reload()
    chat.simulate("tokens=3000,itl_ms=20")
    chat.send("A long story")
    chat.wait_for_text()
    chat.page.reload()
    expect(chat.answer_is("truncated").get_by_text("not the whole answer")).to_be_visible()


def test_a_new_chat_ends_the_old_stream_and_starts_empty(chat: ChatPage) -> None:
    chat.simulate("tokens=3000,itl_ms=20")
    chat.send("A long story, please.")
    chat.wait_for_text()
    with chat.page.expect_event("requestfailed"):
        chat.page.get_by_role("button", name="New chat").click()
    expect(chat.exchanges).to_have_count(0)
    expect(chat.page.get_by_role("heading", name="What shall we set in motion?")).to_be_visible()
    expect(chat.strip).to_be_hidden()
    expect(chat.message).to_be_focused()
    chat.page.reload()
    expect(chat.exchanges).to_have_count(0)


def test_an_example_prompt_is_sent(chat: ChatPage) -> None:
    chat.page.get_by_role("button", name="Explain how a water wheel").click()
    chat.answer_is("complete")
    expect(chat.page.locator(".said")).to_contain_text("where the energy is lost")
