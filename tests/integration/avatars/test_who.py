"""Who may watch, from which pages, and how many."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import httpx
import msgspec
import pytest

from streamkit.wire.keys import CLIENT_TOKENS, STREAM_IDS, KeyRecord, KeySnapshot, Tenant, digest, new_key
from streamkit.wire.telemetry import Spent, SpentState, day_of, month_of
from tests.support.avatars import AVATAR, OFFER, Site, avatar_site
from tests.support.inprocess import DONE, ScriptedExchange, chunk, finish, running_edge, until

pytestmark = pytest.mark.anyio
WHEP = f"/v1/avatars/{AVATAR}/whep"
ONE, TWO = new_key(), new_key()
TENANT_TWO = Tenant(name="two")
KEYS = KeySnapshot(
    version=1,
    required=True,
    keys=(
        KeyRecord(id="k1", sha256=digest(ONE), tenant="one"),
        KeyRecord(id="k2", sha256=digest(TWO), tenant="two"),
    ),
    tenants=(Tenant(name="one"), TENANT_TWO),
    secrets={CLIENT_TOKENS: "cd" * 32, STREAM_IDS: "ab" * 32},
)
PAGE = "https://app.example"


@pytest.fixture
def anyio_backend():
    return ("asyncio", {"use_uvloop": True})


def by(key: str, **more: str) -> dict[str, str]:
    return {**OFFER, "authorization": f"Bearer {key}", **more}


async def post(site: Site, path: str, key: str, **more: str) -> httpx.Response:
    _, offer = await site.offer()
    return await site.http.post(path, content=offer, headers=by(key, **more))


@pytest.mark.slow
async def test_keys_tokens_and_tenants_are_kept_apart():
    async with avatar_site(keys=KEYS, cors_origins=(PAGE,), avatars={"tenant_viewers": 2, "max_viewers": 3}) as site:
        _, offer = await site.offer()
        nobody = await site.http.post(WHEP, content=offer, headers=OFFER)
        assert nobody.status_code == 401
        assert (await site.http.get("/v1/avatars")).status_code == 401
        asked = {"avatars": ["someone-else"], "origin": PAGE}
        token = (await site.http.post("/v1/client_tokens", json=asked, headers=by(ONE))).json()["token"]
        wrong = await post(site, WHEP, token, origin=PAGE)
        assert (wrong.status_code, wrong.json()["error"]["param"]) == (403, "avatar")
        listed = (await site.http.get("/v1/avatars", headers=by(token, origin=PAGE))).json()
        assert listed["data"] == []
        asked["avatars"] = [AVATAR]
        token = (await site.http.post("/v1/client_tokens", json=asked, headers=by(ONE))).json()["token"]
        assert (await post(site, WHEP, token, origin="https://evil.example")).status_code == 403
        mine = await post(site, WHEP, token, origin=PAGE)
        assert mine.status_code == 201
        assert mine.headers["access-control-allow-origin"] == PAGE
        exposed = mine.headers["access-control-expose-headers"].lower()
        assert all(name in exposed for name in ("location", "etag", "link"))
        preflight = await site.http.options(
            WHEP,
            headers={
                "origin": PAGE,
                "access-control-request-method": "POST",
                "access-control-request-headers": "authorization,content-type",
            },
        )
        assert preflight.status_code == 204
        links = mine.headers.get_list("link")
        session = next(link for link in links if "urn:headrace:session" in link)
        session = session[1 : session.index(">")]
        assert (await post(site, session, TWO)).status_code == 404, "another tenant's"
        assert (await site.http.delete(mine.headers["location"], headers=by(TWO))).status_code == 404
        assert (await post(site, session, ONE)).status_code == 201
        flood = await post(site, WHEP, ONE)
        assert (flood.status_code, flood.json()["error"]["code"]) == (429, "over_quota")
        assert (await post(site, WHEP, TWO)).status_code == 201
        full = await post(site, WHEP, TWO)
        assert (full.status_code, full.json()["error"]["code"]) == (503, "at_capacity")
        assert site.simulator.opened == 2
        assert (await site.http.delete(mine.headers["location"], headers=by(token, origin=PAGE))).status_code == 200


async def test_nobody_else_gives_up_a_place_that_is_kept():
    async with avatar_site(keys=KEYS, avatars={"resume_ms": 20_000}, webrtc={"connect_ms": 300}) as site:
        place = (await post(site, WHEP, ONE)).headers["location"]
        again = f"{WHEP}?resume={place.rpartition('/')[2]}"
        await until(lambda: not site.gauge("headrace_avatar_viewers", transport="webrtc"), "it is missed")
        await site.http.delete(place, headers=by(TWO))
        back = await post(site, again, ONE)
        assert back.status_code == 201, "its place waited for it"
        await until(lambda: not site.gauge("headrace_avatar_viewers", transport="webrtc"), "it is missed again")
        await site.http.delete(back.headers["location"], headers=by(ONE))
        assert (await post(site, again, ONE)).status_code == 410
        await site.quiet()


async def test_a_revoked_key_begins_no_chat_on_a_channel_that_is_open():
    async with avatar_site(keys=KEYS) as site:
        site.http.headers["authorization"] = f"Bearer {ONE}"
        watcher = await site.watch()
        without = KeySnapshot(
            version=2, required=True, keys=KEYS.keys[1:], tenants=KEYS.tenants, secrets=KEYS.secrets
        )
        snapshot = site.edge.control.snapshot
        site.edge.control.publish(msgspec.structs.replace(snapshot, keys=without))
        await until(lambda: site.edge.parts.access._snapshot == without, "the news is there")
        assert (await site.http.get("/v1/avatars")).status_code == 401
        request = {"model": "m", "stream": True, "messages": [{"role": "user", "content": "Hi"}]}
        watcher.say(type="chat.start", id="c", request=request)
        error = await watcher.heard("error", id="c")
        assert error["status"] == 401


async def test_a_tenant_over_its_budget_begins_no_chat_that_would_be_spoken():
    async def script(exchange: ScriptedExchange) -> None:
        await exchange.head()
        for event in (chunk("Hello."), finish(), DONE):
            await exchange.send(event)
        await exchange.end()

    async with avatar_site(script, keys=KEYS) as site:
        site.http.headers["authorization"] = f"Bearer {ONE}"
        watcher = await site.watch()
        limited = msgspec.structs.replace(
            KEYS, version=2, tenants=(Tenant(name="one", tokens_per_month=9), TENANT_TWO)
        )
        now = datetime.now(UTC)
        spent = SpentState(day=day_of(now), month=month_of(now), spent=(Spent(payer="tenant:one", day=0, month=9),))
        snapshot = site.edge.control.snapshot
        site.edge.control.publish(msgspec.structs.replace(snapshot, keys=limited, spent=spent))
        await until(lambda: site.edge.parts.access._snapshot == limited, "the news is there")
        request = {"model": "m", "stream": True, "messages": [{"role": "user", "content": "Hi"}]}
        for speak in (True, False):
            name = f"speak-{speak}"
            watcher.say(type="chat.start", id=name, request=request, speak=speak)
            error = await watcher.heard("error", id=name)
            assert (error["status"], error["error"]["code"]) == (429, "insufficient_quota")
            assert "9 tokens per month" in error["error"]["message"]
        assert watcher.of("speech") == []
        # The face stays, and answers again when there is more.
        assert watcher.pc.connectionState == "connected"
        more = msgspec.structs.replace(KEYS, version=3)
        site.edge.control.publish(msgspec.structs.replace(snapshot, keys=more, spent=spent))
        await until(lambda: site.edge.parts.access._snapshot == more, "the budget is gone")
        watcher.say(type="chat.start", id="again", request=request)
        await watcher.heard("done", id="again")
        assert [one["text"] for one in watcher.of("speech")] == ["Hello."]


@pytest.mark.slow
async def test_many_at_once_are_bounded_and_all_of_it_comes_back():
    few = {"max_viewers": 3, "max_sessions": 2, "resume_ms": 0}
    async with avatar_site(avatars=few, webrtc={"connect_ms": 400}) as site:
        offers = [(await site.offer())[1] for _ in range(12)]
        answers = await asyncio.gather(*(site.http.post(WHEP, content=offer, headers=OFFER) for offer in offers))
        statuses = sorted(answer.status_code for answer in answers)
        assert statuses == [201] * 2 + [503] * 10
        await site.quiet()
        assert site.gauge("headrace_avatar_reaped_total", why="unconnected") == 2
        assert site.edge.parts.bodies.used_bytes == 0


@pytest.mark.slow
async def test_another_worker_of_the_node_answers_for_the_one_that_has_the_session(tmp_path):
    from tests.integration.test_resume_peers import introduce

    settings = {"node": "n", "peer_dir": str(tmp_path / "sock")}
    async with (
        avatar_site(keys=KEYS, **settings) as site,
        running_edge(keys=KEYS, **settings, avatars=site.avatars) as other,
        httpx.AsyncClient(base_url=other.url, timeout=10, headers={"authorization": f"Bearer {ONE}"}) as there,
    ):
        await introduce(other, site.edge)
        site.http.headers["authorization"] = f"Bearer {ONE}"
        watcher = await site.watch()
        kind = {"content-type": "application/trickle-ice-sdpfrag", "if-match": watcher.answer.headers["etag"]}
        fragment = "a=mid:0\r\na=candidate:9 1 udp 1 127.0.0.1 9 typ host\r\n"
        assert (await there.patch(watcher.location, content=fragment, headers=kind)).status_code == 204
        stale = await there.patch(watcher.location, content=fragment, headers={**kind, "if-match": '"x"'})
        assert stale.status_code == 412
        _, offer = await site.offer()
        joined = await there.post(watcher.link("urn:headrace:session"), content=offer, headers=OFFER)
        assert joined.status_code == 201, joined.text
        assert joined.headers["location"].startswith(WHEP + "/hv-n.0.")
        assert "urn:headrace:resume" in joined.headers["link"]
        session = (await watcher.heard("session"))["session"]
        sound = {"content-type": "audio/l16;rate=16000"}
        spoken = await there.post(f"/v1/avatars/{session}/sound", content=b"\1\1" * 8_000, headers=sound)
        assert spoken.status_code == 202
        await watcher.heard("playback.finished", speech=spoken.json()["speech"])
        assert (await there.delete(joined.headers["location"])).status_code == 200
        stranger = await there.delete(watcher.location, headers={"authorization": f"Bearer {TWO}"})
        assert stranger.status_code == 404
        assert (await there.delete(watcher.location)).status_code == 200
        await site.quiet()
        gone = await there.post(watcher.link("urn:headrace:resume"), content=offer, headers=OFFER)
        assert gone.status_code == 410
