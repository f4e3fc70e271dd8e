"""WHEP from outside: what is answered, what is refused, and that pictures and sound arrive as they were made."""

from __future__ import annotations

import re

import numpy as np
import pytest
from aiortc import RTCSessionDescription
from aiortc.sdp import SessionDescription

from simulator.compositor.media import HEIGHT, MOUTH, WIDTH
from simulator.compositor.script import Script
from streamkit.wire.pb import compositor_pb2 as pb
from tests.support.avatars import AVATAR, OFFER, avatar_site
from tests.support.inprocess import until

pytestmark = pytest.mark.anyio
WHEP = f"/v1/avatars/{AVATAR}/whep"


@pytest.fixture
def anyio_backend():
    return ("asyncio", {"use_uvloop": True})


async def test_pictures_sound_and_words_arrive_and_everything_is_given_back():
    async with avatar_site() as site:
        watcher = await site.watch()
        answer = watcher.answer
        assert answer is not None
        assert answer.headers["content-type"] == "application/sdp"
        assert answer.headers["location"].startswith(WHEP + "/hv-test.0.")
        assert answer.headers["etag"].strip('"')
        codecs = [
            media.rtp.codecs[0].name for media in SessionDescription.parse(answer.text).media if media.rtp.codecs
        ]
        assert codecs == ["H264", "opus"]
        addresses = [line.split()[4] for line in answer.text.splitlines() if line.startswith("a=candidate:")]
        assert set(addresses) == {"127.0.0.1"}, "loopback only, by default"
        session = await watcher.heard("session")
        assert (session["avatar"], session["codec"], session["width"]) == (AVATAR, "h264", WIDTH)
        watcher.say(type="say", id="s", text="Hello there. How are you?")
        first = await watcher.heard("speech")
        assert (first["text"], first["id"]) == ("Hello there.", "s")
        await watcher.heard("playback.started", speech=first["speech"])
        finished = await watcher.heard("playback.finished", speech=first["speech"])
        assert finished["interrupted"] is False
        assert finished["position_ms"] == 240
        await watcher.heard("playback.finished", 2)
        picture = watcher.frames[-1][1]
        assert (picture.width, picture.height) == (WIDTH, HEIGHT)
        mouths = [float(np.mean(frame.to_ndarray(format="gray")[MOUTH])) for _, frame in watcher.frames]
        assert min(mouths) < 60
        assert max(mouths) > 150, "the mouth moved"
        loud = max(float(np.abs(frame.to_ndarray()).max()) for _, frame in watcher.sound)
        assert loud > 5_000
        assert site.gauge("headrace_avatar_viewers", transport="webrtc") == 1
        gone = await site.http.delete(watcher.location)
        assert gone.status_code == 200
        await site.quiet()
        assert (await site.http.delete(watcher.location)).status_code == 200, "what it asks for is done"
        assert (await site.http.delete(watcher.location[:-1] + "x")).status_code == 404
        assert site.gauge("headrace_avatar_units_total", fate="sent") > 10
        assert site.gauge("headrace_avatar_setup_seconds_count") == 1


async def test_refusals_say_what_is_wrong_and_hold_nothing():
    script = Script(unready=("sim-late",), codecs=(pb.H264, pb.VP8))
    async with avatar_site(script=script, avatars={"max_viewers": 1}) as site:
        _, offer = await site.offer()
        vp9 = offer.replace("VP8/90000", "VP9/90000").replace("H264/90000", "H265/90000")
        cases = [
            (WHEP, "{}", {"content-type": "application/json"}, 415),
            (WHEP, "{}", OFFER, 400),
            (WHEP, offer.replace("a=fingerprint", "a=fingertip"), OFFER, 400),
            (WHEP, offer.replace("a=setup:actpass", "a=setup:whatever"), OFFER, 400),
            (WHEP, offer.replace("a=recvonly", "a=sendonly"), OFFER, 422),
            (WHEP, "v=0\r\n" * 13_000, OFFER, 400),
            (WHEP, b"x" * 70_000, OFFER, 413),
            (WHEP, vp9, OFFER, 406),
            (WHEP, offer.replace("opus/48000", "speex/16000"), OFFER, 406),
            ("/v1/avatars/nobody/whep", offer, OFFER, 404),
            ("/v1/avatars/sim-late/whep", offer, OFFER, 409),
            (WHEP + "?session=ha-test.0.1-0-0", offer, OFFER, 404),
            (WHEP + "?resume=hv-x", offer, OFFER, 404),
            (WHEP + "?sesion=x", offer, OFFER, 400),
            ("/v1/avatars/x/y", offer, OFFER, 404),
        ]  # fmt: skip
        for path, body, headers, status in cases:
            answer = await site.http.post(path, content=body, headers=headers)
            assert answer.status_code == status, (path, status, answer.text)
            assert answer.json()["error"]["message"]
            if status == 409:
                assert int(answer.headers["retry-after"]) >= 1
        await site.watch()
        full = await site.http.post(WHEP, content=offer, headers=OFFER)
        assert (full.status_code, full.json()["error"]["code"]) == (503, "at_capacity")
        assert int(full.headers["retry-after"]) >= 1
        await site.http.delete(site.watchers[-1].location)
        await site.quiet()


async def test_an_offer_that_hides_all_of_its_candidates_connects():
    async with avatar_site() as site:
        watcher, offer = await site.offer()
        hidden = re.sub(r"(a=candidate:\S+ \d+ \S+ \d+ )\S+", r"\g<1>0a1b.local", offer)
        assert "a=end-of-candidates" in hidden
        watcher.answer = answer = await site.http.post(WHEP, content=hidden, headers=OFFER)
        assert "a=candidate:" in answer.text
        await watcher.pc.setRemoteDescription(RTCSessionDescription(sdp=answer.text, type="answer"))
        await until(lambda: watcher.frames, "it is seen")
        await watcher.close()
        await site.quiet()


async def test_a_megabyte_is_refused_before_it_is_read():
    async with avatar_site() as site:
        answer = await site.http.post(WHEP, content=b"v" * 1_000_000, headers=OFFER)
        assert answer.status_code == 413
        assert "sdp_bytes = 65536" in answer.json()["error"]["message"]
        assert site.edge.parts.bodies.used_bytes == 0


async def test_the_other_methods():
    async with avatar_site() as site:
        options = await site.http.options(WHEP)
        assert (options.status_code, options.headers["accept-post"]) == (200, "application/sdp")
        head = await site.http.head(WHEP)
        assert (head.status_code, head.headers["content-type"]) == (200, "application/sdp")
        wrong = await site.http.put(WHEP)
        assert (wrong.status_code, wrong.headers["allow"]) == (405, "POST, GET, HEAD, OPTIONS")
        listed = (await site.http.get("/v1/avatars")).json()
        assert listed["object"] == "list"
        assert [(row["id"], row["object"], row["ready"]) for row in listed["data"]] == [(AVATAR, "avatar", True)]
        (row,) = listed["data"]
        assert row["codecs"] == ["video/H264", "video/VP8", "image/jpeg", "audio/opus"]
        assert (row["voices"], row["default_voice"]) == (["hum"], "hum")
        assert row["links"] == {"whep": WHEP, "ws": WHEP.removesuffix("whep") + "ws"}
        assert (row["owned_by"], row["created"] > 0, row["fps"]) == ("headrace", True, 25)
        assert "reason" not in row
        watcher = await site.watch(channel=False)
        etag = watcher.answer.headers["etag"]
        kind = {"content-type": "application/trickle-ice-sdpfrag"}
        ours = watcher.pc.localDescription.sdp
        ufrag = next(line for line in ours.splitlines() if line.startswith("a=ice-ufrag:"))
        body = f"{ufrag}\r\na=mid:0\r\na=candidate:9 1 udp 1 127.0.0.1 9 typ host\r\n"
        for headers, content, status in [
            ({"if-match": etag}, body, 415),
            (kind, body, 428),
            ({**kind, "if-match": '"other"'}, body, 412),
            ({**kind, "if-match": "*"}, body, 422),
            ({**kind, "if-match": etag}, body.replace(ufrag, "a=ice-ufrag:new1"), 422),
            ({**kind, "if-match": etag}, body, 204),
        ]:
            answer = await site.http.patch(watcher.location, content=content, headers=headers)
            assert answer.status_code == status, (headers, answer.text)
        assert (await site.http.patch(WHEP + "/hv-forged", content=body, headers=kind)).status_code == 404


async def test_an_edge_without_avatars_has_an_empty_list():
    from tests.support.inprocess import running_edge

    async with running_edge() as edge:
        import httpx

        async with httpx.AsyncClient(base_url=edge.url) as http:
            assert (await http.get("/v1/avatars")).json() == {"object": "list", "data": []}
            missing = await http.post(WHEP, content="x", headers=OFFER)
            assert missing.status_code == 404
            assert "compositor_url" in missing.json()["error"]["message"]


async def test_a_gateway_without_webrtc_says_what_there_is_instead():
    async with avatar_site(webrtc={"enabled": False}) as site:
        _, offer = await site.offer()
        answer = await site.http.post(WHEP, content=offer, headers=OFFER)
        error = answer.json()["error"]
        assert (answer.status_code, error["param"]) == (404, "webrtc")
        assert "/ws speaks WebSocket" in error["message"]
        (row,) = (await site.http.get("/v1/avatars")).json()["data"]
        assert row["codecs"] == ["image/jpeg", "audio/opus"]
        assert list(row["links"]) == ["ws"]


async def test_the_realtime_shape():
    async with avatar_site() as site:
        watcher, offer = await site.offer()
        form = {"sdp": (None, offer), "session": (None, '{"type":"realtime","avatar":"sim-face"}')}
        answer = await site.http.post("/v1/realtime/calls", files=form)
        assert answer.status_code == 201, answer.text
        assert answer.headers["location"].startswith("/v1/realtime/calls/hv-")
        hangup = await site.http.post(answer.headers["location"] + "/hangup")
        assert hangup.status_code == 200
        raw = await site.http.post("/v1/realtime/calls", content=offer, headers=OFFER)
        assert raw.status_code == 201
        assert (await site.http.delete(raw.headers["location"])).status_code == 200
        await site.quiet()
        assert watcher.told == []


@pytest.mark.slow
async def test_joining_leaving_and_coming_back():
    async with avatar_site(avatars={"resume_ms": 2_000}) as site:
        first = await site.watch()
        second = await site.watch(first.link("urn:headrace:session"))
        assert site.simulator.opened == 1, "one session at the compositor"
        await until(lambda: first.frames and second.frames, "both see the face")
        assert (await first.heard("session"))["session"] == (await second.heard("session"))["session"]
        await second.close()
        await until(lambda: site.gauge("headrace_avatar_viewers", transport="webrtc") == 1, "one is left")
        back = await site.watch(first.link("urn:headrace:resume"))
        await until(lambda: back.frames, "the one that came back sees the face")
        assert site.gauge("headrace_avatar_viewers", transport="webrtc") == 1, "it took the old one's place"
        assert site.simulator.opened == 1
        await back.close()
        await site.quiet()
        again = await site.http.post(back.link("urn:headrace:resume"), content=(await site.offer())[1], headers=OFFER)
        assert again.status_code in (404, 410)
