"""Credentials for a real TURN server, and an edge whose own ports nobody reaches."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from aiortc import RTCConfiguration, RTCIceServer, RTCPeerConnection, RTCSessionDescription
from aiortc.rtcconfiguration import RTCIceTransportPolicy

from tests.support import needs
from tests.support.avatars import AVATAR, OFFER, avatar_site
from tests.support.inprocess import until
from tests.support.processes import running
from tests.support.processes import until as soon

pytestmark = [pytest.mark.anyio, pytest.mark.slow]
WHEP = f"/v1/avatars/{AVATAR}/whep"


@pytest.fixture
def anyio_backend():
    return ("asyncio", {"use_uvloop": True})


@pytest.fixture(scope="module")
def turn(tmp_path_factory) -> Iterator[str]:
    """A real coturn on loopback that wants credentials of the secret `north`."""
    folder: Path = tmp_path_factory.mktemp("turn")
    program = needs.program("turnserver")
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port = int(sock.getsockname()[1])
    line = [
        program, "-n", "--listening-ip=127.0.0.1", "--relay-ip=127.0.0.1", f"--listening-port={port}", "--no-tls",
        "--no-dtls", "--no-cli", "--allow-loopback-peers", "--realm=test", "--use-auth-secret",
        "--static-auth-secret=north", f"--pidfile={folder}/pid", "--log-file=stdout", "--simple-log",
    ]  # fmt: skip
    with running(line, folder, name="turn") as ours:

        def listens() -> bool:
            with socket.socket() as probe:
                return probe.connect_ex(("127.0.0.1", port)) == 0

        soon(listens, what=f"coturn listens: {ours.output()[-500:]}")
        yield f"turn:127.0.0.1:{port}?transport=udp"


async def test_a_viewer_gets_credentials_that_the_server_takes(turn: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("TURN_SECRET", "north")
    async with avatar_site(webrtc={"ice_servers": [turn], "turn_secret_env": "TURN_SECRET"}) as site:
        _, offer = await site.offer()
        answer = await site.http.post(WHEP, content=offer, headers=OFFER)
        link = next(one for one in answer.headers.get_list("link") if 'rel="ice-server"' in one)
        parameters = dict(part.strip().split("=", 1) for part in link.split(";")[1:])
        name, password = parameters["username"].strip('"'), parameters["credential"].strip('"')
        assert link.startswith(f"<{turn}>")
        assert "north" not in answer.headers["link"]
        # A viewer whose network lets nothing out but the way to that server.
        pc = RTCPeerConnection(
            RTCConfiguration(
                iceServers=[RTCIceServer(turn, name, password)], iceTransportPolicy=RTCIceTransportPolicy.RELAY
            )
        )
        pc.addTransceiver("video", direction="recvonly")
        await pc.setLocalDescription(await pc.createOffer())
        candidates = [line for line in pc.localDescription.sdp.splitlines() if line.startswith("a=candidate:")]
        assert candidates
        assert all(" typ relay " in f"{line} " for line in candidates)
        second = await site.http.post(WHEP, content=pc.localDescription.sdp, headers=OFFER)
        assert second.status_code == 201, second.text
        await pc.setRemoteDescription(RTCSessionDescription(sdp=second.text, type="answer"))
        await until(lambda: pc.connectionState == "connected", "connected through the relay", within_s=10)
        await pc.close()


async def test_an_edge_that_nobody_reaches_asks_for_an_address_of_its_own(turn: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("TURN_SECRET", "north")
    settings = {"ice_servers": [turn], "turn_secret_env": "TURN_SECRET", "relay": True}
    async with avatar_site(webrtc=settings) as site:
        _, offer = await site.offer()
        answer = await site.http.post(WHEP, content=offer, headers=OFFER)
        assert answer.status_code == 201
        assert " typ relay " in answer.text
