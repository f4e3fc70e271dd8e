"""What aiortc 1.16 does not offer and is taken all the same; tests/unit/edge/webrtc/test_contract.py holds it to it.

- A sender that passes packets through loses requests for a keyframe: its flag is read only where it encodes.
- What the receiver's network takes (REMB) is put into the sender's own encoder, which nobody uses here.
- What it says of packets that were lost is counted, and told to nobody.
- Packets are sent again as often as they are asked for, whatever else waits.
- Nothing tells when the other side was last heard.
- Sender reports have the moment of sending as the time of what was sent, each stream its own.
- Each sender is a media stream of its own, and browsers keep lips and voice together only within one.
"""

from __future__ import annotations

from collections.abc import Callable

import aioice
from aiortc import RTCPeerConnection, RTCRtpSender, RTCRtpTransceiver
from aiortc.rtcrtpsender import RTP_HISTORY_SIZE  # type: ignore[attr-defined]
from aiortc.rtp import (
    RTCP_PSFB_APP,
    AnyRtcpPacket,
    RtcpPsfbPacket,
    RtcpRrPacket,
    RtcpSrPacket,
    unpack_remb_fci,
)

__all__ = [
    "forget",
    "ice_connections",
    "in_one_stream",
    "limit_repeats",
    "on_heard",
    "on_keyframe_request",
    "on_loss",
    "on_remb",
    "say_time",
    "sending_codec",
]


def on_keyframe_request(sender: RTCRtpSender, asked: Callable[[], None]) -> None:
    """Call `asked` for PLI and FIR."""
    sender._send_keyframe = asked  # type: ignore[method-assign]  # noqa: SLF001


def on_remb(sender: RTCRtpSender, told: Callable[[int], None]) -> None:
    """Call `told` with the receiver's estimate of its bandwidth, in bits per second."""
    handle = sender._handle_rtcp_packet  # noqa: SLF001

    async def handled(packet: AnyRtcpPacket) -> None:
        if isinstance(packet, RtcpPsfbPacket) and packet.fmt == RTCP_PSFB_APP:
            try:
                bits_per_s, ssrcs = unpack_remb_fci(packet.fci)
            except ValueError:
                return
            if sender._ssrc in ssrcs:  # noqa: SLF001
                told(bits_per_s)
            return
        await handle(packet)

    sender._handle_rtcp_packet = handled  # type: ignore[method-assign]  # noqa: SLF001


def on_loss(sender: RTCRtpSender, told: Callable[[float], None]) -> None:
    """Call `told` with the share of packets that were lost since the receiver's last report, 0 to 1."""
    handle = sender._handle_rtcp_packet  # noqa: SLF001

    async def handled(packet: AnyRtcpPacket) -> None:
        if isinstance(packet, RtcpRrPacket | RtcpSrPacket):
            for report in packet.reports:
                if report.ssrc == sender._ssrc:  # noqa: SLF001
                    told(report.fraction_lost / 256)
        await handle(packet)

    sender._handle_rtcp_packet = handled  # type: ignore[method-assign]  # noqa: SLF001


def limit_repeats(sender: RTCRtpSender, may: Callable[[int], bool]) -> None:
    """Send a lost packet again only where `may` says so of its bytes."""
    again = sender._retransmit  # noqa: SLF001
    history = vars(sender)["_RTCRtpSender__rtp_history"]

    async def repeated(sequence_number: int) -> None:
        packet = history.get(sequence_number % RTP_HISTORY_SIZE)
        if packet is not None and may(len(packet.payload)):
            await again(sequence_number)

    sender._retransmit = repeated  # type: ignore[method-assign]  # noqa: SLF001


def say_time(sender: RTCRtpSender, time_of: Callable[[int], int]) -> None:
    """Have the next report give the packet that was sent last another time of day (NTP, 32.32 bits) than it has."""
    own = vars(sender)
    own["_RTCRtpSender__ntp_timestamp"] = time_of(own["_RTCRtpSender__ntp_timestamp"])


def on_heard(peer: RTCPeerConnection, heard: Callable[[], None]) -> None:
    """Call `heard` for every RTCP packet of the other side, whatever is in it."""
    for transport in {sender.transport for sender in peer.getSenders()}:
        _hear(transport, heard)


def _hear(transport: object, heard: Callable[[], None]) -> None:
    handle = transport._handle_rtcp_data  # type: ignore[attr-defined]  # noqa: SLF001

    async def handled(data: bytes) -> None:
        heard()
        await handle(data)

    transport._handle_rtcp_data = handled  # type: ignore[attr-defined]  # noqa: SLF001


def in_one_stream(peer: RTCPeerConnection) -> None:
    """Put all that a peer sends into one media stream; before its answer is made."""
    senders = peer.getSenders()
    for sender in senders:
        sender._stream_id = senders[0]._stream_id  # noqa: SLF001


def ice_connections(peer: RTCPeerConnection) -> list[aioice.Connection]:
    """Return the ICE agents of a peer, before they gather."""
    transports = {one.receiver.transport for one in peer.getTransceivers()}
    if peer.sctp is not None:
        transports.add(peer.sctp.transport)
    return [transport.transport._connection for transport in transports]  # noqa: SLF001


def forget(peer: RTCPeerConnection) -> None:
    """Take a closed peer apart.

    Its parts know each other in circles, with a history of packets among them: a quarter of a megabyte that would
    wait for the garbage collector, which an edge has nearly turned off.
    """
    parts: list[object] = [peer]
    transports = {sender.transport for sender in peer.getSenders()}
    if peer.sctp is not None:
        transports.add(peer.sctp.transport)
        parts.append(peer.sctp)
    for transceiver in peer.getTransceivers():
        parts += [transceiver.sender, transceiver.receiver, transceiver]
    for dtls in transports:
        ice = dtls.transport
        if (tls := dtls._ssl) is not None:  # noqa: SLF001
            # OpenSSL's context and what checks certificates hold each other; and that holds itself, by its callback.
            context = tls.get_context()
            parts += [context, context._verify_helper]  # noqa: SLF001
        parts += [dtls, ice.iceGatherer, ice._connection, ice]  # noqa: SLF001
    for part in parts:
        vars(part).clear()


def sending_codec(transceiver: RTCRtpTransceiver) -> str:
    """Return the name of the codec that a transceiver sends under, in upper case; empty = none was agreed on."""
    codecs = transceiver._codecs  # noqa: SLF001
    return codecs[0].name.upper() if codecs else ""
