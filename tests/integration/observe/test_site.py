"""A whole site: an edge's streams become events, a trace, usage, and a budget that closes. All processes are real."""

from __future__ import annotations

import asyncio
import contextlib
import csv
import io
import json
import os
import re
import signal
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from control.store import Store
from launch.cli import main
from streamkit.ops.jetstream import JetLink
from streamkit.wire.keys import Tenant
from streamkit.wire.telemetry import EVENTS
from tests.support.exchange import Answer, Exchange, ask, chat, stream
from tests.support.observe import Broker, observing, served, stored
from tests.support.processes import Running, running, until
from tests.support.rig import MODEL, Rig, rig
from tests.support.terminal import terminal
from tests.support.websocket import opened

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[3]
_RETRY = "@alpha status=503; tokens=8"


@dataclass
class Site:
    rig: Rig
    broker: Broker
    observe: Running
    keys: dict[str, str]
    store: Path

    def command(self, *arguments: str, status: int = 0) -> str:
        """Run a command and return what it printed."""
        with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(io.StringIO()) as err:
            found = main(arguments)
        assert found == status, out.getvalue() + err.getvalue()
        return out.getvalue() + (err.getvalue() if status else "")

    def ask(self, who: str, request_id: str = "", **members: Any) -> Answer:
        """Send a chat request with somebody's key."""
        headers = {"authorization": f"Bearer {self.keys[who]}", "x-sim": "tokens=8"}
        if request_id:
            headers["x-request-id"] = request_id
        return ask(self.rig.url, "/v1/chat/completions", chat(**members), headers=headers)

    def events(self, *options: str) -> list[dict[str, Any]]:
        """Return what `headrace events` prints."""
        out = self.command("events", "--nats", self.broker.url, "--json", "--no-follow", "--all", *options)
        return [json.loads(line) for line in out.splitlines()]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("site")
    store = folder / "keys.db"
    with Store(store, create=True) as made:
        keys = {
            "acme": made.create_key("acme").key,
            "counted": made.create_key("counted").key,
            "small": made.create_key(Tenant(name="small", tokens_per_day=20)).key,
            "ops": made.create_key(Tenant(name="ops", operator=True)).key,
        }
    with contextlib.ExitStack() as stack:
        broker = stack.enter_context(served(folder, "here"))
        control = {"nats_url": broker.url, "store_path": str(store)}
        ours = stack.enter_context(rig(folder, {"alpha": {}, "beta": {}}, control=control, without=("edge",)))
        ours.start_edge()
        feeds = [f"edge={ours.ops_url()}", f"control={ours.ops_url('control')}"]
        centre = stack.enter_context(observing(folder, "observe", site="here", nats_url=broker.url, feeds=feeds))
        found = Site(ours, broker, centre, keys, store)
        until(lambda: ask(ours.url_of("control"), "/v1/backends").body.count(b'"up"') == 2)
        until(lambda: found.ask("acme").status == 200, what="the edge takes work")
        until(lambda: stored(broker.url, EVENTS), what="its events are kept")
        yield found


def test_a_stream_is_an_event_and_a_picture(site: Site):
    answer = site.ask("acme", "trace-me", stream=True)
    assert answer.status == 200
    found = until(lambda: site.events("--request-id", "trace-me"), what="the stream's event")
    (event,) = found
    assert (event["kind"], event["site"], event["source"]) == ("stream.end", "here", "edge")
    assert event["fields"]["tenant"] == "acme"
    text = json.dumps(event)
    assert "hello" not in text, "no prompt"
    assert site.keys["acme"] not in text
    page = site.command("trace", "trace-me", "--nats", site.broker.url)
    assert "attempt 1 at alpha for tiny" in page
    assert "1 alpha" in page
    (told,) = json.loads(site.command("trace", "trace-me", "--nats", site.broker.url, "--json"))
    assert told["id"] == event["id"]
    retried = {"authorization": f"Bearer {site.keys['acme']}", "x-request-id": "retry-me", "x-sim": _RETRY}
    assert ask(site.rig.url, "/v1/chat/completions", chat(), headers=retried).status == 200
    until(lambda: site.events("--request-id", "retry-me"))
    page = site.command("trace", "retry-me", "--nats", site.broker.url)
    for told in ("attempt 1 at alpha", "attempt 1 failed", "attempt 2 (refused) at beta", "attempt 2 done"):
        assert told in page, page
    missing = site.command("trace", "nobody-knows", "--nats", site.broker.url, status=1)
    assert "nothing about nobody-knows" in missing


def test_a_stream_that_changes_its_readers_shows_them(site: Site):
    headers = {"authorization": f"Bearer {site.keys['acme']}", "x-request-id": "take-me", "x-headrace-resume": "20"}
    with stream(site.rig.url, "tokens=60,itl_ms=15", headers=headers) as first:
        name = first.head().headers["x-headrace-stream"]
        first.until(b'"content"')
        with Exchange(site.rig.url) as second:
            second.send("GET", f"/v1/streams/{name}", headers={"authorization": headers["authorization"]})
            assert b"[DONE]" in second.read().body
    until(lambda: site.events("--request-id", "take-me"))
    page = site.command("trace", "take-me", "--nats", site.broker.url)
    assert "another reader took it over" in page, page


def test_events_are_filtered_and_go_on_behind_a_sequence(site: Site):
    site.ask("acme", "first-of-two")
    site.ask("acme", "second-of-two")
    until(lambda: site.events("--request-id", "second-of-two"))
    kinds = {event["kind"] for event in site.events()}
    assert {"backend.up", "stream.end"} <= kinds
    assert {event["kind"] for event in site.events("--kind", "stream")} == {"stream.end"}
    both = [
        event
        for event in site.events("--tenant", "acme")
        if event["fields"].get("request_id", "").endswith("-of-two")
    ]
    assert [event["fields"]["request_id"] for event in both] == ["first-of-two", "second-of-two"]
    behind = site.events("--after", str(both[0]["sequence"]))
    assert both[0]["id"] not in {event["id"] for event in behind}
    assert both[1]["id"] in {event["id"] for event in behind}


def test_what_is_not_there_is_told_in_one_line(site: Site):
    def refused(*line: str, status: int) -> str:
        said = site.command(*line, "--nats", site.broker.url, status=status)
        assert said.count("\n") == 1
        return said

    assert "nothing about no-such-request within 1h" in refused("trace", "no-such-request", "--since", "1h", status=1)
    for more in ((), ("--no-follow", "--all")):
        said = refused("events", "--site", "elsewhere", *more, status=2)
        assert said == f"headrace events: {site.broker.url} keeps no events of a site elsewhere\n"
    assert {event["site"] for event in site.events("--site", "here")} == {"here"}


def test_a_message_that_is_no_event_stops_nobody(site: Site):
    async def put() -> None:
        async with JetLink(site.broker.url, name="somebody else") as link:
            assert await link.ready(within_s=10)
            await link.put("headrace.events.here.stream.end", b"hello", id="no-event", stream=EVENTS)
            await link.put("headrace.events.here.stream.end", b'{"id": "\xff"}', id="no-text", stream=EVENTS)

    asyncio.run(put())
    site.ask("ops", "behind-no-event")
    with contextlib.redirect_stderr(io.StringIO()) as said:
        until(lambda: "behind-no-event" in _followed(site), what="what is behind it is shown")
    assert "is no event" in said.getvalue()
    until(lambda: "ops" in {row["tenant"] for row in used(site, "--by", "tenant")}, what="and counted")


def _followed(site: Site) -> str:
    """Return what `headrace events` prints, whatever it says beside that."""
    with contextlib.redirect_stdout(io.StringIO()) as out:
        assert main(["events", "--nats", site.broker.url, "--json", "--no-follow", "--all"]) == 0
    return out.getvalue()


def test_a_follower_goes_on_over_a_broken_broker_without_loss_or_copy(site: Site, tmp_path: Path):
    line = [sys.executable, "-m", "launch", "events", "--nats", site.broker.url, "--json", "--kind", "stream"]
    environment = {"PYTHONUNBUFFERED": "1", "PYTHONPATH": str(ROOT), **os.environ}

    def seen(follower: Running) -> list[str]:
        rows = [json.loads(row) for row in follower.output().splitlines() if row.startswith("{")]
        names = [row["fields"]["request_id"] for row in rows]
        return [name for name in names if name.startswith("follow-")]

    with running(line, tmp_path, name="follower", environment=environment) as follower:

        def begun() -> bool:
            site.ask("acme", "follow-begun")
            return bool(seen(follower))

        until(begun, what="the follower follows")
        site.broker.kill()
        for number in range(5):
            assert site.ask("acme", f"follow-{number}").status == 200
        site.broker.start()
        wanted = [f"follow-{number}" for number in range(5)]
        until(lambda: set(wanted) <= set(seen(follower)), ms=20_000, what="it goes on")
        assert [name for name in seen(follower) if name != "follow-begun"] == wanted


def used(site: Site, *options: str) -> list[dict[str, str]]:
    url = str(site.observe.ready()["url"])
    out = site.command("usage", "--url", url, "--format", "csv", *options)
    return list(csv.DictReader(io.StringIO(out)))


def test_usage_is_what_the_engines_said(site: Site):
    def counted() -> dict[str, str] | None:
        found = (row for row in used(site, "--by", "tenant,model") if row["tenant"] == "counted")
        return next((row for row in found if row["streams"] == "3"), None)

    answers = [site.ask("counted", stream=number % 2 == 0, stream_options=None) for number in range(3)]
    assert [answer.status for answer in answers] == [200, 200, 200]
    row = until(counted, what="its three streams")
    assert row is not None
    assert row["model"] == MODEL
    assert int(row["completion_tokens"]) == 3 * 8
    assert int(row["prompt_tokens"]) > 0
    assert float(row["slot_s"]) > 0
    assert row["gpu_s"] == "", "no arbiter, so nobody knows"
    assert "tenant" in site.command("usage", "--url", str(site.observe.ready()["url"]), "--by", "tenant").lower()
    refused = site.command("usage", "--url", "http://127.0.0.1:9", status=2)
    assert refused.count("\n") == 1


#: What each door says to a tenant that has used up its budget.
_CLOSED = dict.fromkeys(
    ("whole chat", "SSE chat", "whole completion", "SSE completion", "embeddings", "prediction", "WebSocket"),
    (429, "insufficient_quota", "insufficient_quota"),
)


def closed_doors(site: Site) -> dict[str, tuple[int, str, str]]:
    """Knock at each public door with the key of `small`; return status, code and type of what it says."""
    headers = {"authorization": f"Bearer {site.keys['small']}"}
    text = {"model": MODEL, "prompt": "hello"}
    asked: dict[str, tuple[str, dict[str, Any]]] = {
        "whole chat": ("/v1/chat/completions", chat()),
        "SSE chat": ("/v1/chat/completions", chat(stream=True)),
        "whole completion": ("/v1/completions", text),
        "SSE completion": ("/v1/completions", {**text, "stream": True}),
        "embeddings": ("/v1/embeddings", {"model": MODEL, "input": "hello"}),
        "prediction": (f"/v1/models/{MODEL}:predict", {"instances": [1]}),
    }
    said = {}
    for door, (path, body) in asked.items():
        answer = ask(site.rig.url, path, body, headers=headers)
        error = answer.json["error"]
        assert answer.headers["x-should-retry"] == "false"
        said[door] = (answer.status, error["code"], error["type"])

    async def knock() -> dict[str, Any]:
        async with opened(site.rig.url, additional_headers=headers) as socket:
            await socket.start("one", chat(stream=True))
            return (await socket.whole("one"))[-1]

    last = asyncio.run(knock())
    said["WebSocket"] = (last["status"], last["error"]["code"], last["error"]["type"])
    return said


def test_a_budget_that_is_used_up_closes_at_the_edge(site: Site):
    answer = site.ask("small")
    assert answer.status == 200

    def closed() -> Answer | None:
        answer = site.ask("small")
        return answer if answer.status == 429 else None

    refused = until(closed, what="the budget of 20 tokens is used up")
    assert refused is not None
    assert refused.json["error"]["code"] == "insufficient_quota"
    assert refused.headers["x-headrace-reason"] == "rejected-budget"
    assert refused.headers["x-headrace-budget-reset"].endswith("T00:00:00Z")
    assert site.ask("acme").status == 200, "nobody else is meant"
    assert closed_doors(site) == _CLOSED
    # Nobody counts any more: the last totals stand, and all others go on.
    site.broker.kill()
    try:
        assert site.ask("small").status == 429
        assert site.ask("acme").status == 200
    finally:
        site.broker.start()
    # Nor is control there: limits and totals stand, for as long as keys are trusted.
    site.rig.kill("control")
    try:
        assert closed_doors(site) == _CLOSED
        assert site.ask("acme").status == 200
    finally:
        site.rig.start_control()
    # More budget, at once: limits come from control, not from the tally.
    site.command("keys", "tenant", "small", "--store", str(site.store), "--tokens-per-day", "1000000")
    until(lambda: site.ask("small").status == 200, what="a larger budget is in force")


def test_a_probe_needs_an_operators_key_and_gets_the_backend_that_it_names(site: Site):
    for backend in ("alpha", "beta"):
        headers = {"authorization": f"Bearer {site.keys['ops']}", "x-headrace-probe": backend}
        answer = ask(site.rig.url, "/v1/chat/completions", chat(max_tokens=1), headers=headers)
        assert (answer.status, answer.headers["x-headrace-backend"]) == (200, backend)
        assert answer.headers["x-headrace-node"]
    headers = {"authorization": f"Bearer {site.keys['acme']}", "x-headrace-probe": "alpha"}
    assert ask(site.rig.url, "/v1/chat/completions", chat(), headers=headers).status == 403


def test_in_a_terminal_each_event_is_a_line_of_it_and_ctrl_c_ends_on_one_of_its_own(site: Site):
    with terminal("events", "--nats", site.broker.url, "--kind", "stream", "--after", "1") as narrow:
        site.ask("acme", "seen-by-a-person", stream=True)
        rows = until(
            lambda: [row for row in narrow.lines() if "seen-by-a-person" in row], what="the event in the terminal"
        )
        narrow.press(b"\x03")
        assert narrow.ended() == 130
        assert narrow.written.endswith("^C\r\n"), "the shell's prompt begins a line"
        assert "Traceback" not in narrow.written
    (row,) = rows
    assert re.match(r"\d\d:\d\d:\d\d  here  stream.end  finished  seen-by-a-person  ttft \d+ ms  8 tokens", row)
    assert len(row) <= 80
    wanted = ("--request-id", "seen-by-a-person", "--all", "--no-follow")
    with terminal("events", "--nats", site.broker.url, "--wide", *wanted) as wide:
        assert wide.ended() == 0
        assert " prompt_tokens=" in wide.written
        assert " priority=" in wide.written


def test_what_ends_in_a_drain_is_kept_too(site: Site):
    headers = {"authorization": f"Bearer {site.keys['acme']}", "x-request-id": "drain-me"}
    with stream(site.rig.url, "tokens=30,itl_ms=15", headers=headers) as running:
        running.head()
        running.until(b'"content"')
        site.rig.services["edge"].send(signal.SIGTERM)
        assert running.rest().done
    assert site.rig.services["edge"].wait() == 0
    (event,) = until(lambda: site.events("--request-id", "drain-me"), what="its end is told")
    assert event["fields"]["outcome"] == "finished"
