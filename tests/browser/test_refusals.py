"""What the page says and does when the gateway or the stream fails."""

from __future__ import annotations

import json
import re

import pytest
from playwright.sync_api import expect

from tests.support.browser import CHAT, ChatPage, chunk, sse

pytestmark = pytest.mark.browser

ROLE = chunk(role="assistant")


def test_a_saturated_gateway_is_tried_again_when_it_said(chat: ChatPage) -> None:
    chat.inject(
        chat.refuse(429, "Every slot is taken.", Retry_After="2"),
        sse(ROLE, chunk("Here you are."), chunk(finish="stop")),
    )
    chat.send("Hello")
    expect(chat.notice).to_contain_text(re.compile(r"The gateway is saturated; retrying in [12] s"))
    expect(chat.notice).to_contain_text("Every slot is taken.")
    expect(chat.news).to_contain_text("The gateway is saturated")
    expect(chat.answer_is("complete").locator(".prose")).to_have_text("Here you are.")
    expect(chat.notice).to_have_count(0)


def test_waiting_can_be_cut_short_or_given_up(chat: ChatPage) -> None:
    refusal = chat.refuse(503, "Draining.", Retry_After="600")
    chat.inject(refusal, refusal, sse(ROLE, chunk("Now."), chunk(finish="stop")))
    chat.send("Hello")
    expect(chat.notice).to_contain_text("No backend is ready; retrying in")
    chat.page.keyboard.press("Escape")
    chat.answer_is("stopped")
    expect(chat.notice).to_have_count(0)
    chat.page.get_by_role("button", name="Regenerate").click()
    chat.notice.get_by_role("button", name="Retry now").click()
    expect(chat.answer_is("complete").locator(".prose")).to_have_text("Now.")


def test_a_refusal_that_waiting_does_not_help_offers_a_retry(chat: ChatPage) -> None:
    chat.inject(
        chat.refuse(500, "It broke.", x_request_id="req-7", x_should_retry="false", Retry_After="1"),
        sse(ROLE, chunk("Better."), chunk(finish="stop")),
    )
    chat.send("Hello")
    chat.answer_is("failed")
    expect(chat.notice).to_contain_text("The gateway or its backend failed.")
    expect(chat.notice).to_contain_text("It broke.")
    expect(chat.notice).to_contain_text("req-7")
    chat.notice.get_by_role("button", name="Retry").click()
    expect(chat.answer_is("complete").locator(".prose")).to_have_text("Better.")


def test_an_unreachable_gateway_is_said_plainly(chat: ChatPage) -> None:
    chat.watch.expected.append("ERR_CONNECTION_REFUSED")
    chat.page.route(CHAT, lambda route: route.abort("connectionrefused"))
    chat.send("Hello")
    chat.answer_is("failed")
    expect(chat.notice).to_contain_text("The gateway cannot be reached.")
    expect(chat.notice.get_by_role("button", name="Retry")).to_be_visible()


@pytest.mark.parametrize(
    "frames",
    [
        pytest.param(sse(ROLE, chunk("Half an ans"), done=False), id="no end"),
        pytest.param(sse(ROLE, chunk("Half an ans")), id="no finish reason"),
        pytest.param(sse(ROLE, chunk("Half an ans"), chunk(finish="stop"), done=False), id="no DONE"),
    ],
)
def test_an_answer_that_just_ends_is_marked_truncated(chat: ChatPage, frames: dict[str, object]) -> None:
    chat.inject(frames)
    chat.send("Hello")
    answer = chat.answer_is("truncated")
    expect(answer.locator(".prose")).to_have_text("Half an ans")
    expect(answer.get_by_text("Truncated: this is not the whole answer.")).to_be_visible()
    expect(chat.notice).to_contain_text("The stream ended early.")
    expect(chat.notice.get_by_role("button", name="Retry")).to_be_visible()
    chat.page.reload()
    expect(chat.answer_is("truncated").get_by_text("Truncated")).to_be_visible()


def test_an_error_frame_in_the_stream_is_shown_and_the_answer_marked(chat: ChatPage) -> None:
    error = {"error": {"message": "The engine ran out of memory.", "type": "server_error", "code": 500}}
    chat.inject(sse(ROLE, chunk("So far"), error))
    chat.send("Hello")
    answer = chat.answer_is("failed")
    expect(answer.locator(".prose")).to_have_text("So far")
    expect(answer.get_by_text("Truncated: the backend failed")).to_be_visible()
    expect(chat.notice).to_contain_text("The engine ran out of memory.")
    expect(chat.news).to_contain_text("The backend failed")


def test_an_answer_cut_at_the_length_limit_says_so(chat: ChatPage) -> None:
    chat.inject(sse(ROLE, chunk("And then"), chunk(finish="length")))
    chat.send("Hello")
    expect(chat.answer_is("complete").get_by_text("length limit")).to_be_visible()


def test_a_key_is_asked_for_kept_in_the_tab_and_sent(chat: ChatPage) -> None:
    chat.inject(chat.refuse(401, "No key."))
    chat.send("Hello")
    expect(chat.notice).to_contain_text("This gateway asks for an API key.")
    field = chat.page.get_by_label("API key")
    field.fill("sk-test")
    with chat.page.expect_request(CHAT) as asked:
        field.press("Enter")
    assert asked.value.headers["authorization"] == "Bearer sk-test"
    assert chat.page.evaluate("Object.values(localStorage).join().includes('sk-test')") is False
    assert chat.page.evaluate("sessionStorage.getItem('headrace.key')") == "sk-test"


def test_models_behind_a_key_ask_for_it_first(chat: ChatPage) -> None:
    chat.page.route(
        "**/v1/models",
        lambda route: (
            route.fulfill(json={"data": [{"id": "private-model"}]})
            if route.request.headers.get("authorization") == "Bearer sk-test"
            else route.fulfill(**chat.refuse(401, "No key."))
        ),
    )
    chat.page.reload()
    chat.page.get_by_label("API key").fill("sk-test")
    chat.page.get_by_role("button", name="Use key").click()
    expect(chat.picker.locator("option")).to_have_text(["private-model"])
    expect(chat.notice).to_have_count(0)


def test_a_question_without_an_answer_is_not_sent_along(chat: ChatPage) -> None:
    chat.inject(chat.refuse(400, "No."), sse(ROLE, chunk("Yes."), chunk(finish="stop")))
    chat.send("One")
    chat.answer_is("failed")
    with chat.page.expect_request(CHAT) as asked:
        chat.send("Two")
    assert json.loads(asked.value.post_data or "")["messages"] == [{"role": "user", "content": "Two"}]
    chat.answer_is("complete")


def test_a_gateway_without_models_yet_is_looked_at_again(chat: ChatPage) -> None:
    replies = [{"json": {"data": []}}, chat.refuse(503, "Starting."), {"json": {"data": [{"id": "late-model"}]}}]
    chat.page.route("**/v1/models", lambda route: route.fulfill(**(replies.pop(0) if replies else {"status": 599})))
    chat.page.reload()
    expect(chat.notice).to_contain_text("The gateway has no models yet.")
    expect(chat.picker).to_be_disabled()
    expect(chat.picker.locator("option")).to_have_text(["late-model"])
    expect(chat.picker).to_be_enabled()
    expect(chat.notice).to_have_count(0)
