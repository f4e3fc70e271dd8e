"""`headrace.js` by itself, in a page: the parser at every cut, and how each kind of end is told."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.browser import ChatPage

pytestmark = pytest.mark.browser

PARSE = """async ({ text, cuts }) => {
  const { SSEParser } = await import("/assets/headrace.js");
  const bytes = new TextEncoder().encode(text);
  const read = (ends) => {
    const parser = new SSEParser();
    const events = [];
    let from = 0;
    for (const end of [...ends, bytes.length]) {
      events.push(...parser.push(bytes.slice(from, end)));
      from = end;
    }
    return JSON.stringify(events);
  };
  const whole = read([]);
  const other = new Set();
  for (let a = 0; a <= bytes.length; a += 1) {
    other.add(read([a]));
    for (let b = a; cuts > 1 && b <= bytes.length; b += 1) other.add(read([a, b]));
  }
  other.add(read(Array.from(bytes.keys())));
  return { events: JSON.parse(whole), different: [...other].filter((one) => one !== whole) };
}"""

#: Runs one chat against scripted network reads; a read is text, "hang", or "break".
CHAT = """async ({ reads, status = 200, headers = {}, abortAfter = null, leaveAfter = null }) => {
  const { Headrace, HeadraceError } = await import("/assets/headrace.js");
  const encoder = new TextEncoder();
  const seen = { cancelled: false, events: [], request: null, error: null };
  const abort = new AbortController();
  const fetcher = async (url, init) => {
    seen.request = { url: String(url), body: JSON.parse(init.body), auth: init.headers.Authorization ?? null };
    if (status === 0) throw new TypeError("Failed to fetch");
    let next = 0;
    const body = new ReadableStream({
      start(controller) {
        init.signal?.addEventListener("abort", () => controller.error(init.signal.reason));
      },
      pull(controller) {
        const read = reads[next++];
        if (read === undefined) controller.close();
        else if (read === "break") controller.error(new TypeError("network error"));
        else if (read === "hang") return new Promise(() => {});
        else controller.enqueue(typeof read === "string" ? encoder.encode(read) : new Uint8Array(read));
      },
      cancel() { seen.cancelled = true; },
    }, { highWaterMark: 0 });
    return new Response(body, { status, headers: { "Content-Type": "text/event-stream", ...headers } });
  };
  const client = new Headrace({ baseUrl: "/sub/", apiKey: "k", fetch: fetcher });
  try {
    let count = 0;
    const request = { model: "m", messages: [], signal: abort.signal, top_p: 1 };
    for await (const { headers: _, ...event } of client.chat(request)) {
      seen.events.push(event);
      count += 1;
      if (count === leaveAfter) break;
      if (count === abortAfter) setTimeout(() => abort.abort());
    }
  } catch (error) {
    const known = error instanceof HeadraceError;
    seen.error = known ? { ...error, message: error.message } : { name: error.name };
  }
  await Promise.resolve();
  return seen;
}"""


def frame(text: str = "", finish: str | None = None, extra: str = "") -> str:
    reason = f'"{finish}"' if finish else "null"
    delta = f'{{"content":"{text}"}}' if text else "{}"
    return f'data: {{"choices":[{{"index":0,"delta":{delta},"finish_reason":{reason}}}]{extra}}}\n\n'


def run(chat: ChatPage, *reads: object, **options: object) -> dict[str, Any]:
    seen: dict[str, Any] = chat.page.evaluate(CHAT, {"reads": list(reads), **options})
    return seen


def text_of(seen: dict[str, Any]) -> str:
    return "".join(event["text"] for event in seen["events"] if event["type"] == "delta")


STREAM = (
    "\ufeff: hello\r\ndata: eins — zwei 🌊\r\n\r\nid: 7\rdata:no space\rdata:  two\r\rretry: 10\n\n"
    "event: odd\ndata\n\n: ping\nnothing: here\ndata: last é\n\ndata: half an event"
)


@pytest.mark.parametrize(("text", "cuts"), [(STREAM, 1), (STREAM, 2), ("data: \U0001f30a水\r\n\r\ndata: é\r\r", 2)])
def test_every_cut_gives_the_same_events(chat: ChatPage, text: str, cuts: int) -> None:
    got = chat.page.evaluate(PARSE, {"text": text, "cuts": cuts})
    assert got["different"] == []
    if text is STREAM:
        assert [(event["event"], event["data"], event["id"]) for event in got["events"]] == [
            ("message", "eins — zwei 🌊", ""),
            ("message", "no space\n two", "7"),
            ("odd", "", "7"),
            ("message", "last é", "7"),
        ]


def test_an_event_without_end_is_refused_and_not_hoarded(chat: ChatPage) -> None:
    kind = chat.page.evaluate(
        """async () => {
          const { SSEParser } = await import("/assets/headrace.js");
          const parser = new SSEParser({ maxEventChars: 1000 });
          try {
            for (;;) parser.push(new TextEncoder().encode("data: more and more "));
          } catch (error) {
            return error.kind;
          }
        }"""
    )
    assert kind == "protocol"


def test_a_whole_answer_is_read_with_its_timing(chat: ChatPage) -> None:
    usage = '"usage":{"prompt_tokens":1,"completion_tokens":2,"total_tokens":3}'
    seen = run(
        chat,
        frame(),
        frame("Hel") + frame("lo"),
        frame(finish="stop"),
        f'data: {{"choices":[],{usage}}}\n\n',
        "data: [DONE]\n\n",
        headers={"X-Request-Id": "r1", "X-Headrace-Backend": "b1", "X-Headrace-Simulated": "1"},
    )
    assert seen["error"] is None
    assert [event["type"] for event in seen["events"]] == ["open", "delta", "delta", "finish", "usage", "done"]
    opened, first, second = seen["events"][:3]
    assert (opened["requestId"], opened["backend"], opened["simulated"]) == ("r1", "b1", True)
    assert first["gapMs"] is None
    assert second["gapMs"] == 0
    assert first["ttftMs"] == second["ttftMs"] >= opened["headersMs"]
    request = seen["request"]
    assert request["url"].endswith("/sub/v1/chat/completions")
    assert request["auth"] == "Bearer k"
    assert request["body"] == {
        "top_p": 1,
        "model": "m",
        "messages": [],
        "stream": True,
        "stream_options": {"include_usage": True},
    }


@pytest.mark.parametrize(
    ("reads", "kind"),
    [
        pytest.param([frame("a")], "truncated", id="end without DONE"),
        pytest.param([frame("a"), frame(finish="stop")], "truncated", id="finish without DONE"),
        pytest.param([frame("a"), "data: [DONE]\n\n"], "truncated", id="DONE without finish"),
        pytest.param([frame("a"), frame("b")[:-1]], "truncated", id="half an event"),
        pytest.param([frame("a"), "break"], "truncated", id="reset"),
        pytest.param([frame("a"), 'data: {"error":{"message":"m"}}\n\ndata: [DONE]\n\n'], "stream", id="error frame"),
        pytest.param([frame("a"), 'event: error\ndata: {"error":{}}\n\n'], "stream", id="named error frame"),
        pytest.param([frame("a"), "data: {oops\n\n"], "protocol", id="not JSON"),
    ],
)
def test_an_answer_that_is_not_whole_is_an_error(chat: ChatPage, reads: list[str], kind: str) -> None:
    seen = run(chat, *reads)
    assert text_of(seen) == "a"
    assert seen["error"]["kind"] == kind
    assert "done" not in [event["type"] for event in seen["events"]]


@pytest.mark.parametrize(
    ("headers", "wait", "retryable"),
    [
        ({"Retry-After": "3"}, 3000, True),
        ({"Retry-After": "3", "retry-after-ms": "250"}, 250, True),
        ({"Retry-After": "Thu, 01 Jan 1970 00:00:00 GMT"}, 0, True),
        ({"Retry-After": "soon"}, None, True),
        ({"x-should-retry": "false"}, None, False),
        ({}, None, True),
    ],
)
def test_a_refusal_tells_when_to_come_back(
    chat: ChatPage, headers: dict[str, str], wait: int | None, retryable: bool
) -> None:
    body = '{"error":{"message":"Full.","type":"saturated","param":"p","code":"c"}}'
    seen = run(chat, body, status=429, headers={"X-Request-Id": "r2", **headers})
    error = seen["error"]
    assert (error["kind"], error["status"], error["message"]) == ("http", 429, "Full.")
    assert (error["type"], error["param"], error["code"], error["requestId"]) == ("saturated", "p", "c", "r2")
    assert (error["retryAfterMs"], error["retryable"]) == (wait, retryable)


def test_a_refusal_without_an_envelope_and_no_answer_at_all(chat: ChatPage) -> None:
    assert run(chat, "<html>", status=502)["error"]["message"] == "The gateway answered 502."
    assert run(chat, status=0)["error"]["kind"] == "network"
    assert run(chat, "<html>", headers={"Content-Type": "text/html"})["error"]["kind"] == "protocol"


def test_abort_throws_its_reason_and_leaving_the_loop_closes_the_stream(chat: ChatPage) -> None:
    aborted = run(chat, frame("a"), "hang", abortAfter=2)
    assert aborted["error"] == {"name": "AbortError"}
    assert text_of(aborted) == "a"
    left = run(chat, frame("a"), "hang", leaveAfter=2)
    assert left["error"] is None
    assert left["cancelled"]


def test_text_cut_inside_a_character_is_whole_on_the_page(chat: ChatPage) -> None:
    reads = [[byte] for byte in (frame("Grüße 水 🌊") + frame(finish="stop") + "data: [DONE]\n\n").encode()]
    assert text_of(run(chat, *reads)) == "Grüße 水 🌊"
