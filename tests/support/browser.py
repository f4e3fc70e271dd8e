"""A real headless Chromium, a page under watch, and the chat page as a person sees it.

`watched` fails its test at the end when the page asked another origin for anything, when the browser blocked
something by the page's policy, or when the console got an error that the test did not announce.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol

import pytest
from playwright.sync_api import (
    Browser,
    BrowserContext,
    ConsoleMessage,
    Locator,
    Page,
    Request,
    Route,
    expect,
    sync_playwright,
)

from tests.support.needs import program
from tests.support.timing import FACTOR

__all__ = ["CHAT", "DESKTOP", "PHONE", "ChatPage", "Open", "Watch", "browser", "chat", "chunk", "sse", "watched"]

FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
CHAT = "**/v1/chat/completions"
DESKTOP = (1280, 860)
PHONE = (390, 844)


class Gateway(Protocol):
    """What the `gateway` fixture of tests/conftest.py gives."""

    edge_url: str


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """One Chromium for each module: Playwright keeps an event loop running in this thread until it is closed."""
    path = program("chromium", "chromium-browser", "google-chrome")
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=path, args=FLAGS)
        yield running
        running.close()


@dataclass
class Watch:
    """What the browser saw of one context."""

    origin: str
    requests: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    #: Substrings of console errors that the test brings about by itself.
    expected: list[str] = field(default_factory=list)

    def attach(self, context: BrowserContext) -> None:
        context.on("request", lambda request: self.requests.append(request.url))
        context.on("weberror", lambda error: self.problems.append(str(error.error)))
        context.on("console", self._console)

    def _console(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.problems.append(message.text)

    def verify(self) -> None:
        inside = (f"{self.origin}/", "data:", "blob:")
        assert [url for url in self.requests if not url.startswith(inside)] == []
        assert [text for text in self.problems if not any(part in text for part in self.expected)] == []


#: Opens a page of the given width and height, with any other context options.
Open = Callable[..., Page]


@pytest.fixture
def watched(browser: Browser, gateway: Gateway) -> Iterator[tuple[Open, Watch]]:
    """Return a function that opens pages, and the watch over them."""
    origin = gateway.edge_url.rstrip("/")
    watch = Watch(origin)
    contexts: list[BrowserContext] = []

    def open_page(size: tuple[int, int] = DESKTOP, **options: Any) -> Page:
        context = browser.new_context(viewport={"width": size[0], "height": size[1]}, base_url=origin, **options)
        context.set_default_timeout(10_000 * FACTOR)
        context.grant_permissions(["clipboard-read", "clipboard-write"], origin=origin)
        watch.attach(context)
        contexts.append(context)
        return context.new_page()

    expect.set_options(timeout=10_000 * FACTOR)
    yield open_page, watch
    for context in contexts:
        context.close()
    watch.verify()


class ChatPage:
    """The chat page by what a person finds on it."""

    def __init__(self, page: Page, watch: Watch) -> None:
        self.page = page
        self.watch = watch
        self.message = page.get_by_role("textbox", name="Message")
        self.picker = page.get_by_role("combobox", name="Model")
        self.send_button = page.get_by_role("button", name="Send", exact=True)
        self.stop_button = page.get_by_role("button", name="Stop", exact=True)
        self.jump = page.get_by_role("button", name="Jump to latest")
        self.strip = page.get_by_role("region", name="Latency")
        self.sparkline = self.strip.locator("svg")
        self.exchanges = page.get_by_role("article")
        self.answers = page.locator(".answer")
        self.notice = page.get_by_role("group", name="Problem")
        self.news = page.get_by_role("status")

    def open(self) -> None:
        self.page.goto("/")
        expect(self.picker).to_be_enabled()

    def send(self, text: str) -> None:
        self.message.fill(text)
        self.message.press("Enter")

    def metric(self, name: str) -> Locator:
        return self.strip.locator(f"[data-metric={name}]")

    def answer_is(self, status: str, index: int = -1) -> Locator:
        """Wait until an answer has `status` and return it."""
        answer = self.answers.nth(index)
        expect(answer).to_have_attribute("data-status", status, timeout=30_000 * FACTOR)
        return answer

    def wait_for_text(self) -> None:
        """Wait until the newest answer shows its first words."""
        self.until("document.querySelector('article:last-child .prose > :not(.waiting)')?.textContent.length > 10")

    def until(self, condition: str) -> None:
        """Wait for a JavaScript expression to hold. (Playwright's own way evals, which the page's policy forbids.)"""
        self.page.evaluate(
            f"""() => new Promise((resolve) => {{
              const look = () => (({condition}) ? resolve() : requestAnimationFrame(look));
              look();
            }})"""
        )

    def copied(self, button: Locator) -> str:
        """Press a copy button and return what the clipboard holds then."""
        button.click()
        expect(self.page.get_by_role("button", name="Copied")).to_be_visible()
        return str(self.page.evaluate("navigator.clipboard.readText()"))

    def simulate(self, directives: str) -> None:
        """Ask the simulator for a behaviour, by the header that the page itself cannot set."""
        self.page.route(CHAT, lambda route: route.continue_(headers={**route.request.headers, "x-sim": directives}))

    def whole_answer(self, asked: Request, directives: str) -> str:
        """Return the text that the gateway answers to the page's request, for a client that loses nothing."""
        found = self.page.evaluate(
            """async ([asked, sim]) => {
              const { model, messages } = JSON.parse(asked);
              const response = await fetch("/v1/chat/completions", {
                method: "POST",
                headers: { "Content-Type": "application/json", "X-Sim": sim },
                body: JSON.stringify({ model, messages }),
              });
              return (await response.json()).choices[0].message.content;
            }""",
            [asked.post_data, directives],
        )
        return str(found)

    def inject(self, *replies: dict[str, Any]) -> None:
        """Answer the next requests with `replies` (arguments of Playwright's `fulfill`), then the real gateway."""
        waiting = list(replies)

        def reply(route: Route) -> None:
            if waiting:
                route.fulfill(**waiting.pop(0))
            else:
                route.continue_()

        self.page.route(CHAT, reply)

    def refuse(self, status: int, message: str, **headers: str) -> dict[str, Any]:
        """Return a refusal in the OpenAI envelope; the console line that the browser writes about it is expected."""
        self.watch.expected.append(f"status of {status}")
        error = {"message": message, "type": "error", "param": None, "code": status}
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return {
            "status": status,
            "headers": {"Content-Type": "application/json", **named},
            "body": json.dumps({"error": error}),
        }


@pytest.fixture
def chat(watched: tuple[Open, Watch]) -> ChatPage:
    """Return the chat page, open and with its models loaded, at desktop size."""
    open_page, watch = watched
    chat = ChatPage(open_page(), watch)
    chat.open()
    return chat


def chunk(text: str = "", *, finish: str | None = None, **delta: Any) -> dict[str, Any]:
    """Return one chat completion chunk."""
    content = {"content": text} if text else {}
    choice = {"index": 0, "delta": {**content, **delta}, "finish_reason": finish}
    return {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]}


def sse(*frames: dict[str, Any], done: bool = True) -> dict[str, Any]:
    """Return a whole event stream as arguments of `fulfill`."""
    body = "".join(f"data: {json.dumps(frame, ensure_ascii=False)}\n\n" for frame in frames)
    return {
        "status": 200,
        "headers": {"Content-Type": "text/event-stream; charset=utf-8", "X-Headrace-Backend": "test-backend"},
        "body": body + ("data: [DONE]\n\n" if done else ""),
    }
