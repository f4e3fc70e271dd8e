from __future__ import annotations

import json

import httpx
import pytest

from streamkit.ops.events import EventFeed
from streamkit.ops.health import ops_app
from streamkit.ops.lifecycle import Lifecycle

pytestmark = pytest.mark.anyio


def client(app) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://ops")


async def test_readiness_is_the_lifecycle_and_the_checks():
    lifecycle, reasons = Lifecycle(settle_ms=0, drain_ms=0), {"control": "no answer yet", "disk": None}
    checks = {name: lambda name=name: reasons[name] for name in reasons}
    async with client(ops_app(lifecycle, metrics=lambda: (b"", "text/plain"), checks=checks)) as ops:
        answer = await ops.get("/readyz")
        assert answer.status_code == 503
        assert answer.json()["reasons"] == {"control": "no answer yet", "lifecycle": "starting"}
        assert (await ops.get("/healthz")).status_code == 200
        lifecycle.started()
        assert (await ops.get("/readyz")).json()["reasons"] == {"control": "no answer yet"}
        reasons["control"] = None
        answer = await ops.get("/readyz")
        assert (answer.status_code, answer.json()["ready"]) == (200, True)
        lifecycle.begin_drain()
        assert (await ops.get("/readyz")).status_code == 503


async def test_metrics_keep_their_content_type():
    kind = "text/plain; version=1.0.0; charset=utf-8"
    app = ops_app(Lifecycle(settle_ms=0, drain_ms=0), metrics=lambda: (b"a 1\n", kind))
    async with client(app) as ops:
        answer = await ops.get("/metrics")
        assert (answer.content, answer.headers["content-type"]) == (b"a 1\n", kind)


async def test_events_end_after_the_drain_and_are_bounded():
    lifecycle, feed = Lifecycle(settle_ms=0, drain_ms=0), EventFeed(max_subscribers=1)
    async with client(ops_app(lifecycle, metrics=lambda: (b"", ""), feed=feed)) as ops:
        assert (await ops.post("/v1/events")).status_code == 405
        with feed.subscribe():
            answer = await ops.get("/v1/events")
            assert answer.status_code == 503
            assert answer.headers["retry-after"] == "5"
        lifecycle.begin_drain()
        with feed.subscribe() as reader:
            feed.publish("in the drain", {})
            lifecycle.finished()
            assert [event.name async for event in reader] == ["in the drain"]
        answer = await ops.get("/v1/events")
        assert answer.status_code == 200
        assert answer.text == ""
        assert feed.subscribers == 0


async def test_a_reader_of_events_comes_back_with_the_last_id():
    lifecycle, feed = Lifecycle(settle_ms=0, drain_ms=0), EventFeed(now=lambda: 2.0)
    feed.publish("a", {"n": 1})
    feed.publish("b", {"n": 2})
    lifecycle.begin_drain()
    feed.close()
    async with client(ops_app(lifecycle, metrics=lambda: (b"", ""), feed=feed)) as ops:
        both = (await ops.get("/v1/events", headers={"last-event-id": "0"})).text
        assert both.startswith(f'id: {feed.life}-1-2000\nevent: a\ndata: {{"n":1}}\n\n')
        rest = (await ops.get("/v1/events", headers={"last-event-id": f"{feed.life}-1-2000"})).text
        assert rest == f'id: {feed.life}-2-2000\nevent: b\ndata: {{"n":2}}\n\n'


async def test_without_a_feed_there_is_no_page_for_it():
    async with client(ops_app(Lifecycle(settle_ms=0, drain_ms=0), metrics=lambda: (b"", ""))) as ops:
        assert (await ops.get("/v1/events")).status_code == 404
        assert json.loads((await ops.get("/healthz")).content) == {"alive": True, "state": "starting"}
