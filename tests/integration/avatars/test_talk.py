"""What is said to an avatar, and what it says it did."""

from __future__ import annotations

import asyncio
import io
import itertools
import json
import socket
import struct
import wave

import pytest
import websockets

from simulator.compositor.script import Script
from streamkit.wire.pb import compositor_pb2 as pb
from tests.support.avatars import AVATAR, Watcher, avatar_site
from tests.support.inprocess import DONE, MODEL, ScriptedExchange, chunk, finish, until

pytestmark = pytest.mark.anyio
CHAT = {"model": MODEL, "stream": True, "messages": [{"role": "user", "content": "Hi"}]}


@pytest.fixture
def anyio_backend():
    return ("asyncio", {"use_uvloop": True})


def start(watcher: Watcher, name: str = "c", **members) -> None:
    watcher.say(type="chat.start", id=name, request=CHAT, **members)


async def test_an_answer_is_spoken_while_it_comes():
    more = asyncio.Event()

    async def script(exchange: ScriptedExchange) -> None:
        await exchange.head()
        for text in ("First sen", "tence. Sec"):
            await exchange.send(chunk(text))
        await more.wait()
        for event in (chunk("ond, to"), chunk("o."), finish(), DONE):
            await exchange.send(event)
        await exchange.end()

    async with avatar_site(script) as site:
        watcher = await site.watch()
        start(watcher)
        first = await watcher.heard("playback.started")
        assert watcher.of("done") == [], "it speaks before the answer is whole"
        assert watcher.of("speech")[0] | {"speech": 1, "epoch": 1} == {
            "type": "speech", "speech": first["speech"], "epoch": 1, "text": "First sentence.", "id": "c",
            "event_id": 1,
        }  # fmt: skip
        more.set()
        await watcher.heard("playback.finished", 2)
        assert [one["text"] for one in watcher.of("speech")] == ["First sentence.", "Second, too."]
        done = await watcher.heard("done", id="c")
        events = [one["data"]["choices"][0] for one in watcher.of("event")]
        assert "".join(one["delta"].get("content", "") for one in events) == "First sentence. Second, too."
        assert done["seq"] == len(events) + 1
        start(watcher, "quiet", speak=False)
        await watcher.heard("done", id="quiet")
        assert len(watcher.of("speech")) == 2
        await watcher.close()
        await site.quiet()


async def test_an_interruption_stops_speech_stream_and_engine():
    async def script(exchange: ScriptedExchange) -> None:
        await exchange.head()
        while True:
            await exchange.send(chunk("Words and words and words. "))
            await asyncio.sleep(0.02)

    async with avatar_site(script, script=Script(ms_per_char=60)) as site:
        watcher = await site.watch()
        other = await site.watch(watcher.link("urn:headrace:session"))
        start(watcher)
        await watcher.heard("playback.started")
        other.say(type="interrupt")
        interrupted = await watcher.heard("interrupted")
        assert interrupted["epoch"] == 2
        await watcher.heard("cancelled", id="c")
        await until(site.edge.engine.last.closed.is_set, "the engine's connection is closed")
        finished = await watcher.heard("playback.finished", speech=1)
        assert finished["interrupted"] is True
        before = len(watcher.of("speech"))
        watcher.say(type="say", text="Still here.")
        again = await watcher.heard("speech", before + 1)
        assert again["epoch"] == 2
        await watcher.heard("playback.finished", speech=again["speech"])
        await watcher.close()
        await other.close()
        await site.quiet()


async def test_verbs_that_are_wrong_are_told_and_change_nothing():
    async with avatar_site(avatars={"messages_per_s": 5, "message_bytes": 2_048}) as site:
        watcher = await site.watch()
        await watcher.heard("session")
        cases = [
            ("{", "message"),
            ('{"type":"dance"}', "type"),
            ('{"type":"say","text":""}', "text"),
            ('{"type":"say","text":"```"}', "text"),
            ('{"type":"chat.start","id":"a","request":{"model":"m"}}', "request.messages"),
            ("x" * 3_000, "message"),
        ]
        for number, (text, param) in enumerate(cases, 1):
            watcher.channel.send(text)
            error = await watcher.heard("error", number)
            assert error["error"]["param"].startswith(param.split(".")[0]), (text, error)
        watcher.channel.send(b"\x00\x01")
        assert (await watcher.heard("error", len(cases) + 1))["status"] == 415
        for _ in range(50):
            watcher.say(type="ping")
        await watcher.heard("error", status=429)
        await asyncio.sleep(0.3)
        watcher.say(type="ping", t=7)
        await watcher.heard("pong", t=7.0)
        assert len([one for one in watcher.of("error") if one["status"] == 429]) <= 2
        await watcher.close()
        await site.quiet()


async def test_the_time_of_each_unit_is_told_to_who_asks():
    async with avatar_site() as site:
        watcher = await site.watch()
        watcher.say(type="latency", every_ms=100)
        samples = (await watcher.heard("latency", 2))["samples"]
        assert {"seq", "pts", "needed_us", "encode_us", "edge_us"} <= set(samples[0])
        assert all(0 <= sample["edge_us"] < 500_000 for sample in samples)
        watcher.say(type="latency", every_ms=0)
        await watcher.close()
        await site.quiet()


@pytest.mark.slow
async def test_posted_sound_and_a_microphone_drive_the_face():
    async with avatar_site() as site:
        watcher = await site.watch(audio="sendrecv")
        await watcher.heard("session")
        await until(lambda: site.simulator.count()["sound"] >= 3, "the microphone is heard")
        sound = next(one.sound for one in site.simulator.requests if one.WhichOneof("request") == "sound")
        assert (sound.sample_rate, sound.channels, len(sound.pcm)) == (48_000, 1, 3_840)
        await watcher.close()
        await site.quiet()

        watcher = await site.watch()
        session = (await watcher.heard("session"))["session"]
        file = io.BytesIO()
        with wave.open(file, "wb") as out:
            out.setnchannels(1)
            out.setsampwidth(2)
            out.setframerate(16_000)
            out.writeframes(struct.pack("<h", 12_000) * 8_000)
        path = f"/v1/avatars/{session}/sound"
        answer = await site.http.post(path, content=file.getvalue(), headers={"content-type": "audio/wav"})
        assert answer.status_code == 202, answer.text
        assert answer.json()["duration_ms"] == 500
        await watcher.heard("playback.finished", speech=answer.json()["speech"])
        for body, kind, status in [
            (b"x", "text/plain", 415),
            (b"RIFFjunk", "audio/wav", 400),
            (b"\0\0", "audio/l16;rate=1;channels=1", 400),
            (b"\0", "audio/l16;rate=16000", 400),
            (b"\0\0", "audio/l16;rate=16000;channels=9", 400),
            (b"\0\0" * 100, "audio/l16;rate=16000;channels=1", 202),
            (b"\0\0" * 160_000, "audio/l16;rate=16000", 202),
            (b"\0\0" * 100, "audio/l16;rate=16000;channels=1", 429),
        ]:
            answer = await site.http.post(path, content=body, headers={"content-type": kind})
            assert answer.status_code == status, (kind, answer.text)
        assert (await site.http.post("/v1/avatars/ha-x/sound", content=b"")).status_code == 404
        await watcher.close()
        await site.quiet()


async def test_the_same_over_a_websocket():
    async with avatar_site() as site:
        url = site.edge.url.replace("http", "ws") + f"/v1/avatars/{AVATAR}/ws"
        async with websockets.connect(url, subprotocols=["headrace.v1"], compression=None) as socket:
            told, pictures, sounds = [], [], []
            await socket.send(json.dumps({"type": "say", "text": "Hello."}))
            while not any(one["type"] == "playback.finished" for one in told):
                message = await asyncio.wait_for(socket.recv(), 5)
                if isinstance(message, str):
                    told.append(json.loads(message))
                else:
                    kind, time = struct.unpack("!BQ", message[:9])
                    (pictures if kind == 1 else sounds).append((time, message[9:]))
            assert told[0]["type"] == "session"
            assert told[0]["codec"] == "mjpeg"
            assert all(data.startswith(b"\xff\xd8") and data.endswith(b"\xff\xd9") for _, data in pictures)
            assert [time for time, _ in sounds] == sorted(time for time, _ in sounds)
            assert site.gauge("headrace_avatar_viewers", transport="websocket") == 1
        await site.quiet()


@pytest.mark.slow
async def test_a_viewer_that_vanished_is_found_and_an_unwatched_face_rests():
    async with avatar_site(avatars={"silence_ms": 1_000, "resume_ms": 600}) as site:
        watcher = await site.watch(channel=False)
        await until(lambda: watcher.frames, "it sees the face")
        for transport in {one.sender.transport for one in watcher.pc.getTransceivers()}:
            # What a network that goes away looks like from here: no packet leaves any more, none is said goodbye to.
            transport.transport._send = _nothing
        began = asyncio.get_running_loop().time()
        reaped = "headrace_avatar_reaped_total"
        await until(lambda: site.gauge(reaped, why="silent"), "it is found to be silent", within_s=5)
        assert asyncio.get_running_loop().time() - began < 5
        acked = site.simulator.acked
        await asyncio.sleep(0.2)
        assert site.simulator.acked <= acked + 3, "nobody watches: the window is shut"
        await site.quiet()


async def test_one_that_never_connects_is_given_up():
    async with avatar_site(webrtc={"connect_ms": 300}) as site:
        _, offer = await site.offer()
        answer = await site.http.post(
            f"/v1/avatars/{AVATAR}/whep", content=offer, headers={"content-type": "application/sdp"}
        )
        assert answer.status_code == 201
        await until(lambda: site.gauge("headrace_avatar_reaped_total", why="unconnected"), "it is given up")
        await site.quiet()


async def test_a_compositor_that_dies_ends_the_session_with_a_word():
    async with avatar_site(script=Script(die_after=15)) as site:
        watcher = await site.watch()
        error = await watcher.heard("error")
        assert (error["error"]["code"], error["status"]) == ("backend_error", 502)
        await until(lambda: watcher.pc.connectionState == "closed", "its connection is closed")
        await site.quiet()


async def test_a_compositor_that_is_away_is_a_503():
    async with avatar_site(avatars={"compositor_url": "grpc://127.0.0.1:1"}) as site:
        for path, method in ((f"/v1/avatars/{AVATAR}/whep", "POST"), ("/v1/avatars", "GET")):
            _, offer = await site.offer()
            answer = await site.http.request(
                method, path, content=offer if method == "POST" else None, headers={"content-type": "application/sdp"}
            )
            assert (answer.status_code, answer.json()["error"]["code"]) == (503, "no_backend")
            assert int(answer.headers["retry-after"]) >= 1


async def test_a_slow_keyframe_request_reaches_the_compositor_once():
    async with avatar_site() as site:
        watcher = await site.watch()
        await until(lambda: len(watcher.frames) > 3, "it sees the face")
        before = site.simulator.count()["keyframe"]
        receiver = next(one.receiver for one in watcher.pc.getTransceivers() if one.kind == "video")
        sender = next(one.sender for one in watcher.pc.getTransceivers() if one.kind == "video")
        assert sender
        ssrc = next(iter(receiver._RTCRtpReceiver__remote_streams))
        for _ in range(5):
            await receiver._send_rtcp_pli(ssrc)
        await until(lambda: site.simulator.count()["keyframe"] > before, "the request is there")
        await asyncio.sleep(0.35)
        assert site.simulator.count()["keyframe"] - before <= 2, "five requests became one, and one that waited"
        assert site.simulator.count()["codecs"] == 0
        assert pb.H264 in site.simulator.script.codecs


async def _nothing(_data: bytes) -> None:
    return


async def test_a_gateway_that_stops_says_so_on_both_ways():
    async with avatar_site() as site:
        watcher = await site.watch()
        await watcher.heard("session")
        url = site.edge.url.replace("http", "ws") + f"/v1/avatars/{AVATAR}/ws"
        async with websockets.connect(url, compression=None) as socket:
            site.edge.edge.lifecycle.begin_drain()
            error = await watcher.heard("error")
            assert error["error"]["code"] == "draining"
            async with asyncio.timeout(5):
                await socket.wait_closed()
            assert socket.close_code == 1012
        await until(lambda: site.simulator.sessions == 0, "the compositor's sessions have ended")


async def test_an_answer_that_breaks_off_is_not_spoken_to_an_end_it_has_not():
    async def script(exchange: ScriptedExchange) -> None:
        await exchange.head()
        await exchange.send(chunk("A whole sentence. Half of a"))
        await asyncio.sleep(0.05)
        exchange.cut()

    async with avatar_site(script, max_attempts=1) as site:
        watcher = await site.watch()
        start(watcher)
        error = await watcher.heard("error", id="c")
        assert error["error"]["code"] == "stream_broken"
        await watcher.heard("playback.finished")
        assert [one["text"] for one in watcher.of("speech")] == ["A whole sentence."]


@pytest.mark.slow
async def test_a_socket_that_is_not_read_gets_the_newest_pictures_and_no_backlog():
    async with avatar_site() as site:
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        sock.setblocking(False)
        host, port = site.edge.url.removeprefix("http://").split(":")
        await asyncio.get_running_loop().sock_connect(sock, (host, int(port)))
        url = f"ws://{host}:{port}/v1/avatars/{AVATAR}/ws"
        async with websockets.connect(url, sock=sock, compression=None, max_queue=1) as reader:
            seen = [(0.0, -1)]

            def stands() -> bool:
                now, acked = asyncio.get_running_loop().time(), site.simulator.acked
                if acked != seen[-1][1]:
                    seen.append((now, acked))
                return acked > 3 and now - seen[-1][0] > 1

            await until(stands, "nothing more is made for one that takes nothing", within_s=10)
            times: list[int] = []
            # What the kernels had taken comes first.
            while len(times) < 400 and (len(times) < 2 or times[-1] - times[-2] <= 20 * 3_600):
                message = await asyncio.wait_for(reader.recv(), 5)
                if isinstance(message, bytes) and message[0] == 1:
                    times.append(struct.unpack("!BQ", message[:9])[1])
            gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
            assert all(gap > 0 for gap in gaps)
            assert gaps[-1] > 20 * 3_600, "what nobody took was not made; the newest follows"
        await site.quiet()
