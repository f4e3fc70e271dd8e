"""`/v1/ws` in a real Chromium: from our own page it connects, and from another origin it does not."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser

from tests.support.browser import ChatPage

pytestmark = pytest.mark.browser

#: Begins streams, gives credit for what it reads, and ends with the close code.
STREAMS = """async ({ names, credit, tokens }) => {
  const socket = new WebSocket(`ws://${location.host}/v1/ws`, ["headrace.v1", "headrace.key.any"]);
  const bytes = (text) => new TextEncoder().encode(text).length;
  const heard = Object.fromEntries(names.map((name) => [name, { text: "", seqs: [], end: null }]));
  await new Promise((resolve, reject) => { socket.onopen = resolve; socket.onerror = reject; });
  const over = new Promise((resolve) => {
    socket.onmessage = ({ data }) => {
      const said = JSON.parse(data);
      const mine = heard[said.id];
      if (said.type === "event") {
        mine.seqs.push(said.seq);
        mine.text += said.data.choices[0]?.delta.content ?? "";
        socket.send(JSON.stringify({ type: "credit", id: said.id, bytes: bytes(data) }));
      } else if (said.type !== "started") {
        mine.end = said.type;
        if (names.every((name) => heard[name].end)) resolve();
      }
    };
  });
  for (const name of names) {
    const request = { model: "sim-chat", stream: true, messages: [{ role: "user", content: "Hello" }] };
    socket.send(JSON.stringify(
      { type: "start", id: name, operation: "chat", request, credit, sim: `tokens=${tokens}; seed=1` }));
  }
  await over;
  const closed = new Promise((resolve) => { socket.onclose = resolve; });
  socket.close(1000);
  const { code, wasClean } = await closed;
  return { heard, code, wasClean, subprotocol: socket.protocol, extensions: socket.extensions };
}"""

CONNECT = """(url) => new Promise((resolve) => {
  const socket = new WebSocket(url);
  socket.onopen = () => resolve("open");
  socket.onerror = () => resolve("refused");
})"""


class _Blank(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        return


@pytest.fixture
def elsewhere() -> Iterator[str]:
    """A page of another origin."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Blank) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
        thread.join()


def test_streams_share_a_socket(chat: ChatPage):
    names = ["a", "b", "c"]
    seen = chat.page.evaluate(STREAMS, {"names": names, "credit": 600, "tokens": 30})
    assert (seen["code"], seen["wasClean"], seen["subprotocol"], seen["extensions"]) == (
        1000, True, "headrace.v1", "",
    )  # fmt: skip
    texts = {seen["heard"][name]["text"] for name in names}
    assert len(texts) == 1
    assert texts != {""}
    for name in names:
        mine = seen["heard"][name]
        assert mine["end"] == "done"
        assert mine["seqs"] == list(range(1, len(mine["seqs"]) + 1))


def test_a_foreign_page_cannot_connect(gateway, browser: Browser, elsewhere: str):
    address = gateway.edge_url.replace("http", "ws", 1) + "/v1/ws"
    context = browser.new_context()
    try:
        page = context.new_page()
        page.goto(elsewhere)
        assert page.evaluate(CONNECT, address) == "refused"
        page.goto(gateway.edge_url)
        assert page.evaluate(CONNECT, address) == "open"
    finally:
        context.close()
