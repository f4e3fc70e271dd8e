"""What becomes of a feed's events on their way to the spool, and how far it was read."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from observe.collector import MAX_EVENT_BYTES, Collector, Counts, own_feed, take
from observe.counting import Counting
from observe.door import door
from observe.positions import Positions
from observe.prober import Probing
from observe.run import main
from observe.settings import HealingSettings, ObserveSettings, ProberSettings
from observe.spool import Spool
from observe.tally import Tally
from streamkit.ops.events import EventFeed, EventId
from streamkit.ops.http_client import HttpClient
from streamkit.ops.jetstream import JetLink
from streamkit.ops.settings import SettingsError
from streamkit.wire.telemetry import Event, subject

ID = EventId("life", 7, 1_700)


def test_an_event_of_a_feed_is_put_into_its_envelope():
    spool = Spool(10_000)
    assert take(spool, "edge", "here", ID, "stream.end", b'{"tenant":"acme"}')
    (spooled,) = spool.next(9)
    assert (spooled.id, spooled.feed, spooled.subject) == ("life-7-1700", "edge", "headrace.events.here.stream.end")
    event = msgspec.json.decode(spooled.data, type=Event)
    assert (event.kind, event.site, event.source, event.at_ms) == ("stream.end", "here", "edge", 1_700)
    assert event.fields == {"tenant": "acme"}


@pytest.mark.parametrize(
    ("kind", "data"),
    [
        ("Stream.End", b"{}"),
        ("stream.>", b"{}"),
        ("stream..end", b"{}"),
        ("", b"{}"),
        ("stream.end", b"[]"),
        ("stream.end", b"{"),
        ("stream.end", b'{"deep":' + b"[" * 20_000 + b"]" * 20_000 + b"}"),
        ("stream.end", json.dumps({"text": "x" * MAX_EVENT_BYTES}).encode()),
    ],
)
def test_what_is_no_event_is_refused(kind: str, data: bytes):
    spool = Spool(1_000_000)
    assert not take(spool, "edge", "here", ID, kind, data)
    assert len(spool) == 0


def test_a_kind_is_no_way_into_other_subjects():
    for kind in ("a.*", "a b", "", "A", "a.", "$JS.API"):
        with pytest.raises(ValueError, match="not a kind of event"):
            subject("here", kind)


def test_positions_outlive_a_process_and_a_damaged_file_is_none(tmp_path: Path):
    file = tmp_path / "positions.json"
    Positions(file).write({"edge": "life-7-1700"})
    assert Positions(file).read() == {"edge": "life-7-1700"}
    file.write_text('{"edge": 3')
    assert Positions(file).read() == {}
    assert Positions(tmp_path / "none.json").read() == {}


@pytest.mark.parametrize(
    "damaged", [b'{"edge": "\xff"}', b'{"edge": "a\\nb"}', '{"edge": "lif\u00e9-7-1700"}'.encode(), b"\0" * 64]
)
def test_a_damaged_position_is_none_and_no_header(tmp_path: Path, damaged: bytes):
    file = tmp_path / "positions.json"
    file.write_bytes(damaged)
    assert Positions(file).read() == {}


async def until(so: Callable[[], bool]) -> None:
    """Return once it is so, under the caller's deadline."""
    while not so():  # noqa: ASYNC110 - nobody tells of it
        await asyncio.sleep(0.001)


@pytest.mark.anyio
async def test_more_events_of_its_own_at_once_than_may_wait_end_nothing():
    feed, spool = EventFeed(backlog_bytes=1_000), Spool(1_000_000)
    task = asyncio.create_task(own_feed(feed, site="here", spool=spool))
    async with asyncio.timeout(10):
        await until(lambda: bool(feed.subscribers))
        for number in range(100):
            feed.publish("healing.withheld", {"backend": f"gpu{number}", "why": "x" * 50})
        await until(lambda: len(spool) == 100 or task.done())
        assert not task.done()
        feed.publish("path.well", {})
        await until(lambda: len(spool) == 101)
    assert spool.dropped == 0
    feed.close()
    await task


def client(app: object) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://observe")  # type: ignore[arg-type]


@pytest.mark.anyio
async def test_the_page_names_what_is_wrong(tmp_path: Path):
    tally = Tally(tmp_path / "usage.db")
    counting = Counting(tally, JetLink("nats://127.0.0.1:9", name="nobody"), "EVENTS", "here")
    try:
        async with client(door(counting, tally, list)) as page:
            assert (await page.get("/v1/usage")).json()["rows"] == []
            assert (await page.get("/v1/paths")).json() == []
            for query, param in (
                ("since_ms=0", "since_ms"),
                ("since_ms=x", "since_ms"),
                ("by=day", "by"),
                ("by=", "by"),
            ):
                answer = await page.get(f"/v1/usage?{query}")
                assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)
        async with client(door(None, None, list)) as page:
            answer = await page.get("/v1/usage")
            assert answer.status_code == 404
            assert "not counted here" in answer.json()["error"]["message"]
    finally:
        counting.close()


def test_a_prober_without_its_key_does_not_start():
    edges = ("http://127.0.0.1:1",)
    assert Probing.of(ProberSettings(), HealingSettings()) is None
    with pytest.raises(SettingsError, match=r"prober\.key_env: the environment has no NONESUCH_KEY"):
        Probing.of(ProberSettings(edges=edges, key_env="NONESUCH_KEY"), HealingSettings())
    with pytest.raises(SettingsError, match=r"prober\.ca_file"):
        Probing.of(ProberSettings(edges=edges, ca_file="/nonesuch.pem"), HealingSettings())


@pytest.mark.parametrize(
    ("made", "settings", "line"),
    [
        ("folder", {}, "usage.db: cannot be used: "),
        ("text", {}, "usage.db: cannot be used: "),
        (
            None,
            {"edges": ("http://127.0.0.1:1",), "key_env": "NONESUCH_KEY"},
            "prober.key_env: the environment has no",
        ),
    ],
)
def test_what_cannot_start_says_so_in_a_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], made: str | None, settings: dict[str, Any], line: str
):
    if made == "folder":
        (tmp_path / "usage.db").mkdir()
    elif made == "text":
        (tmp_path / "usage.db").write_text("no database at all, but a text that is long enough to be looked at" * 20)
    assert main(ObserveSettings(state_dir=str(tmp_path)), ProberSettings(**settings), HealingSettings()) == 2
    err = capsys.readouterr().err
    assert line in err
    assert err.count("\n") == 1


@pytest.mark.anyio
async def test_what_was_refused_is_not_asked_for_again():
    asked: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\nid: life-7-1700\nevent: No.Kind\ndata: {}\n\n")
        await writer.drain()
        writer.close()

    counts = Counts()
    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server, HttpClient() as http:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        one = Collector("edge", url, site="here", http=http, spool=Spool(10_000), after="", counts=counts)
        task = asyncio.create_task(one.run())
        async with asyncio.timeout(10):
            await until(lambda: len(asked) == 2)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    assert [b"last-event-id: life-7-1700" in head for head in asked] == [False, True]
    assert counts.refused >= 1
