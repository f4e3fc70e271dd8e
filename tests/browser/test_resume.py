"""The page through a bad network: connections reset in mid-answer, and its text is whole all the same."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Request, expect

from tests.support.browser import DESKTOP, ChatPage, Gateway, Watch
from tests.support.chaos import Chaos, chaos
from tests.support.timing import FACTOR

pytestmark = pytest.mark.browser


@pytest.fixture
def network(gateway: Gateway, tmp_path: Path) -> Iterator[Chaos]:
    with chaos(gateway.edge_url, tmp_path) as network:
        yield network


@pytest.fixture
def chat(browser: Browser, network: Chaos) -> Iterator[ChatPage]:
    """The chat page as it is reached through the network."""
    watch = Watch(network.url, expected=["net::ERR_"])
    width, height = DESKTOP
    context = browser.new_context(viewport={"width": width, "height": height}, base_url=network.url)
    context.set_default_timeout(10_000 * FACTOR)
    context.grant_permissions(["clipboard-read", "clipboard-write"], origin=network.url)
    watch.attach(context)
    page = ChatPage(context.new_page(), watch)
    page.open()
    yield page
    context.close()
    watch.verify()


def ask(chat: ChatPage, directives: str) -> Request:
    """Send a question, and return the request once its answer has begun."""
    chat.simulate(directives)
    with chat.page.expect_request("**/v1/chat/completions") as asked:
        chat.send("Tell me about the sea.")
    chat.wait_for_text()
    return asked.value


def assert_whole(chat: ChatPage, asked: Request, directives: str) -> None:
    """Compare what the page shows with what a client that loses nothing gets."""
    answer = chat.answer_is("complete")
    shown = chat.copied(answer.get_by_role("button", name="Copy answer"))
    assert shown == chat.whole_answer(asked, directives)


def test_an_answer_outlives_resets_and_says_so(chat: ChatPage, network: Chaos) -> None:
    asked = ask(chat, "tokens=250,itl_ms=30,seed=3")
    link = chat.answers.last.locator(".link")
    for number in range(3):
        assert network.cut() > 0
        chat.until(f"document.querySelector('article:last-child .link').dataset.breaks === '{number + 1}'")
        expect(link).to_contain_text("nothing was lost")
    assert_whole(chat, asked, "tokens=250,seed=3")
    expect(chat.answers.last.locator(".figures")).to_contain_text(re.compile(r"3 breaks of .* bridged"))


def test_it_waits_for_a_network_that_is_gone_for_a_while(chat: ChatPage, network: Chaos) -> None:
    asked = ask(chat, "tokens=200,itl_ms=30,seed=4")
    link = chat.answers.last.locator(".link")
    network.set({"toxic": "refuse"})
    network.cut()
    expect(link).to_contain_text("Connection lost")
    network.clear()
    expect(link).to_contain_text("nothing was lost")
    assert_whole(chat, asked, "tokens=200,seed=4")


def test_stop_ends_the_stream_itself_and_not_only_the_connection(chat: ChatPage, network: Chaos) -> None:
    chat.simulate("tokens=100000,itl_ms=20")
    chat.send("Go on for ever.")
    chat.wait_for_text()
    with chat.page.expect_response(lambda response: response.request.method == "DELETE") as stopped:
        chat.stop_button.click()
    assert stopped.value.status == 204
    chat.answer_is("stopped")
