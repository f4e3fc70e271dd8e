"""A page of another origin, in a real browser: allowed where it is listed, and blocked everywhere else."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser

from tests.support.rig import MODEL, rig
from tests.support.timing import FACTOR

pytestmark = pytest.mark.browser

#: Streams one chat and says what a page could see of it.
ASK = """async ([url, model]) => {
  const headers = {"content-type": "application/json", authorization: "Bearer any", "x-stainless-lang": "js"};
  const body = JSON.stringify({model, stream: true, messages: [{role: "user", content: "hi"}]});
  try {
    const answer = await fetch(url + "/v1/chat/completions", {method: "POST", headers, body});
    const text = await answer.text();
    return {status: answer.status, done: text.includes("[DONE]"),
            id: answer.headers.get("x-request-id"), backend: answer.headers.get("x-headrace-backend")};
  } catch (error) {
    return {blocked: String(error)};
  }
}"""


@contextlib.contextmanager
def page_server() -> Iterator[str]:
    """Yield an origin that serves an empty page."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("content-type", "text/html")
            self.end_headers()
            self.wfile.write(b"<!doctype html><title>elsewhere</title>")

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the library's name
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_only_listed_pages_get_an_answer(browser: Browser, tmp_path: Path) -> None:
    with (
        page_server() as listed,
        page_server() as stranger,
        rig(tmp_path, {"alpha": {}}, edge={"cors_origins": [listed]}) as site,
    ):

        def asked(origin: str) -> dict[str, Any]:
            context = browser.new_context()
            context.set_default_timeout(10_000 * FACTOR)
            try:
                page = context.new_page()
                page.goto(origin)
                found: dict[str, Any] = page.evaluate(ASK, [site.url, MODEL])
                return found
            finally:
                context.close()

        found = asked(listed)
        assert (found.get("status"), found.get("done"), found.get("backend")) == (200, True, "alpha"), found
        assert found["id"]
        started = site.stats("alpha")["started"]
        assert "Failed to fetch" in asked(stranger)["blocked"]
        assert site.stats("alpha")["started"] == started, "the preflight was refused, so nothing was asked"
