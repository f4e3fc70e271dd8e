"""What is taken from aiortc and aioice beyond their interface: if a release moves it, this fails first."""

from __future__ import annotations

import asyncio
import dataclasses
import importlib.metadata
import struct
from fractions import Fraction

import aioice
import av
import pytest
from aiortc import RTCConfiguration, RTCPeerConnection, RTCRtpSender, RTCSessionDescription
from aiortc.codecs import get_encoder
from aiortc.mediastreams import MediaStreamError
from aiortc.rtp import (
    RTCP_PSFB_APP,
    RTCP_PSFB_FIR,
    RTCP_PSFB_PLI,
    RTCP_RTPFB_NACK,
    RtcpPacket,
    RtcpPsfbPacket,
    RtcpReceiverInfo,
    RtcpRrPacket,
    RtcpRtpfbPacket,
    RtcpSrPacket,
    RtpPacket,
    pack_remb_fci,
)

from edge.webrtc import hooks
from edge.webrtc.ice import bind_to
from edge.webrtc.tracks import Passing
from edge.webrtc.turn import IceServers
from streamkit.wire.errors import Code, HeadraceError

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend():
    return ("asyncio", {"use_uvloop": True})


def packet(data: bytes, pts: int, rate: int) -> av.Packet:
    made = av.Packet(data)
    made.pts, made.time_base = pts, Fraction(1, rate)
    return made


def test_the_version_is_the_one_that_is_pinned():
    assert importlib.metadata.version("aiortc") == "1.16.0"


@pytest.mark.parametrize(("name", "rate"), [("video/H264", 90_000), ("video/VP8", 90_000), ("audio/opus", 48_000)])
async def test_packets_pass_through_an_encoder_that_never_encodes(name: str, rate: int):
    kind = name.partition("/")[0]
    capability = next(one for one in RTCRtpSender.getCapabilities(kind).codecs if one.mimeType == name)
    encoder = get_encoder(capability)
    data = b"\0\0\0\1\x65" + b"x" * 50 if name == "video/H264" else b"x" * 50
    payloads, timestamp = encoder.pack(packet(data, 3_600, rate))
    assert timestamp == 3_600
    assert len(payloads) == 1
    assert payloads[0].endswith(b"x" * 50)


async def test_a_track_gives_what_it_is_woken_for_and_ends():
    waiting = [packet(b"1", 0, 90_000)]
    track = Passing("video", lambda: waiting.pop(0) if waiting else None)
    assert bytes(await track.recv()) == b"1"
    receiving = asyncio.ensure_future(track.recv())
    await asyncio.sleep(0)
    waiting.append(packet(b"2", 1, 90_000))
    track.wake()
    assert bytes(await receiving) == b"2"
    ending = asyncio.ensure_future(track.recv())
    await asyncio.sleep(0)
    track.stop()
    with pytest.raises(MediaStreamError):
        await ending


async def test_requests_for_keyframes_and_bandwidth_reach_us():
    pc = RTCPeerConnection(RTCConfiguration(iceServers=[]))
    sender = pc.addTrack(Passing("video", lambda: None))
    asked: list[int] = []
    told: list[int] = []
    hooks.on_keyframe_request(sender, lambda: asked.append(1))
    hooks.on_remb(sender, told.append)
    for fmt in (RTCP_PSFB_PLI, RTCP_PSFB_FIR):
        await sender._handle_rtcp_packet(RtcpPsfbPacket(fmt=fmt, ssrc=1, media_ssrc=sender._ssrc))
    assert asked == [1, 1]
    fci = pack_remb_fci(600_000, [sender._ssrc])
    await sender._handle_rtcp_packet(RtcpPsfbPacket(fmt=RTCP_PSFB_APP, ssrc=1, media_ssrc=0, fci=fci))
    foreign = pack_remb_fci(1, [sender._ssrc ^ 1])
    await sender._handle_rtcp_packet(RtcpPsfbPacket(fmt=RTCP_PSFB_APP, ssrc=1, media_ssrc=0, fci=foreign))
    await sender._handle_rtcp_packet(RtcpPsfbPacket(fmt=RTCP_PSFB_APP, ssrc=1, media_ssrc=0, fci=b"junk"))
    assert told == [pytest.approx(600_000, rel=0.01)]
    await pc.close()


async def test_losses_that_a_receiver_reports_are_heard():
    pc = RTCPeerConnection(RTCConfiguration(iceServers=[]))
    sender = pc.addTrack(Passing("video", lambda: None))
    told: list[float] = []
    hooks.on_remb(sender, lambda _: None)
    hooks.on_loss(sender, told.append)
    report = RtcpReceiverInfo(
        ssrc=sender._ssrc, fraction_lost=64, packets_lost=9, highest_sequence=1, jitter=0, lsr=0, dlsr=0
    )
    other = dataclasses.replace(report, ssrc=sender._ssrc ^ 1)
    await sender._handle_rtcp_packet(RtcpRrPacket(ssrc=1, reports=[other, report]))
    assert told == [0.25]
    assert [one.packetsLost for one in (await sender.getStats()).values() if one.type == "remote-inbound-rtp"] == [9]
    await pc.close()


async def test_lost_packets_are_sent_again_where_they_may():
    pc = RTCPeerConnection(RTCConfiguration(iceServers=[]))
    sender = pc.addTrack(Passing("video", lambda: None))
    sent: list[bytes] = []

    async def send(data: bytes) -> None:
        sent.append(data)

    sender.transport._send_rtp = send
    asked: list[int] = []
    hooks.limit_repeats(sender, lambda size: asked.append(size) or len(asked) < 2)
    for number in (7, 8):
        kept = RtpPacket(payload_type=96, sequence_number=number, ssrc=sender._ssrc, payload=b"x" * 50)
        vars(sender)["_RTCRtpSender__rtp_history"][number % 128] = kept
    nack = RtcpRtpfbPacket(fmt=RTCP_RTPFB_NACK, ssrc=1, media_ssrc=sender._ssrc, lost=[6, 7, 8])
    await sender._handle_rtcp_packet(nack)
    assert asked == [50, 50]
    assert len(sent) == 1
    await pc.close()


async def test_the_time_of_day_of_a_report_is_ours_to_say():
    pc = RTCPeerConnection(RTCConfiguration(iceServers=[]))
    sender = pc.addTrack(Passing("video", lambda: None))
    sent: asyncio.Queue[bytes] = asyncio.Queue()
    sender.transport._send_rtp = sent.put
    hooks.say_time(sender, lambda at: at + (7 << 32))
    reporting = asyncio.ensure_future(sender._run_rtcp())
    report = RtcpPacket.parse(await sent.get())[0]
    reporting.cancel()
    await reporting
    assert isinstance(report, RtcpSrPacket)
    assert report.sender_info.ntp_timestamp == 7 << 32
    await pc.close()


async def test_everything_that_comes_is_heard():
    pc = RTCPeerConnection(RTCConfiguration(iceServers=[]))
    sender = pc.addTrack(Passing("video", lambda: None))
    heard: list[int] = []
    hooks.on_heard(pc, lambda: heard.append(1))
    await sender.transport._handle_rtcp_data(struct.pack("!BBHL", 0x80, 201, 1, 7))
    assert heard == [1]
    await pc.close()


async def test_lips_and_voice_are_one_stream():
    client = RTCPeerConnection(RTCConfiguration(iceServers=[]))
    for kind in ("audio", "video"):
        client.addTransceiver(kind, direction="recvonly")
    await client.setLocalDescription(await client.createOffer())
    pc = RTCPeerConnection(RTCConfiguration(iceServers=[]))
    for kind in ("audio", "video"):
        pc.addTrack(Passing(kind, lambda: None))
    await pc.setRemoteDescription(RTCSessionDescription(sdp=client.localDescription.sdp, type="offer"))
    hooks.in_one_stream(pc)
    answer = await pc.createAnswer()
    streams = {line.split()[0] for line in answer.sdp.splitlines() if line.startswith("a=msid:")}
    assert len(streams) == 1
    await pc.close()
    await client.close()


async def test_candidates_are_ours_alone():
    connection = aioice.Connection(ice_controlling=False)
    bind_to(connection, ["127.0.0.1", "127.0.0.2"], range(0))
    await connection.gather_candidates()
    assert sorted(one.host for one in connection.local_candidates) == ["127.0.0.1", "127.0.0.2"]
    await connection.close()


async def test_ports_come_from_the_range_and_run_out():
    free = aioice.Connection(ice_controlling=False)
    bind_to(free, ["127.0.0.1"], range(0))
    await free.gather_candidates()
    port = free.local_candidates[0].port
    taken = aioice.Connection(ice_controlling=False)
    bind_to(taken, ["127.0.0.1"], range(port, port + 1))
    with pytest.raises(HeadraceError, match="port_min") as caught:
        await taken.gather_candidates()
    assert caught.value.code is Code.AT_CAPACITY
    await free.close()
    await taken.close()
    again = aioice.Connection(ice_controlling=False)
    bind_to(again, ["127.0.0.1"], range(port, port + 1))
    await again.gather_candidates()
    assert again.local_candidates[0].port == port
    await again.close()


async def test_preferences_before_the_offer_decide_the_codec():
    client = RTCPeerConnection(RTCConfiguration(iceServers=[]))
    client.addTransceiver("video", direction="recvonly")
    await client.setLocalDescription(await client.createOffer())
    for codec in ("H264", "VP8"):
        pc = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        pc.addTrack(Passing("video", lambda: None))
        (transceiver,) = pc.getTransceivers()
        capabilities = RTCRtpSender.getCapabilities("video").codecs
        transceiver.setCodecPreferences([one for one in capabilities if one.name in (codec, "rtx")])
        await pc.setRemoteDescription(RTCSessionDescription(sdp=client.localDescription.sdp, type="offer"))
        for connection in hooks.ice_connections(pc):
            bind_to(connection, ["127.0.0.1"], range(0))
        await pc.setLocalDescription()
        assert hooks.sending_codec(transceiver) == codec
        await pc.close()
    await client.close()


def test_credentials_are_those_of_the_rest_scheme():
    servers = IceServers(["stun:s.example", "turn:t.example?transport=udp"], "north", 600, now=lambda: 1_000.0)
    assert servers.credentials("viewer") == ("1600:viewer", "xiNViy8V48GC4vQHAB16J7kxfcM=")
    stun, turn = servers.links("viewer")
    assert stun == b'<stun:s.example>; rel="ice-server"'
    assert turn.startswith(b'<turn:t.example?transport=udp>; rel="ice-server"; username="1600:viewer"; credential="')
