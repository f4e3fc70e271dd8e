"""Viewers on loopback; and such that decode nothing, where the load side's core is not what is measured."""

from __future__ import annotations

from typing import Any, Final

import aiortc.rtcrtpreceiver as receiving
import httpx
from aioice import ice
from aiortc import RTCConfiguration, RTCPeerConnection, RTCSessionDescription

__all__ = ["begun", "blind", "loopback", "offered"]

_OFFER: Final = {"content-type": "application/sdp"}


class _Nothing:
    """A decoder that decodes nothing."""

    def decode(self, *_: object) -> list[Any]:
        return []


def _addresses(**_: object) -> list[str]:
    return ["127.0.0.1"]


def loopback() -> None:
    """Make every peer of this process stay on loopback."""
    # The library's own name, here and below: it offers no other.
    ice.get_host_addresses = _addresses  # type: ignore[assignment]


def blind() -> None:
    """Make every peer of this process decode nothing, and stay on loopback."""
    receiving.get_decoder = lambda *_: _Nothing()  # type: ignore[assignment, attr-defined]
    loopback()


def begun() -> RTCPeerConnection:
    """Return a peer that wants picture and sound; add a data channel, and `offered`."""
    peer = RTCPeerConnection(RTCConfiguration(iceServers=[]))
    for kind in ("video", "audio"):
        peer.addTransceiver(kind, direction="recvonly")
    return peer


async def offered(peer: RTCPeerConnection, http: httpx.AsyncClient, url: str) -> httpx.Response:
    """Offer a peer to a WHEP endpoint, and take its answer; it connects by itself from then on.

    Raises:
        httpx.HTTPError: it was refused, or nobody answered.
    """
    await peer.setLocalDescription(await peer.createOffer())
    answer = await http.post(url, content=peer.localDescription.sdp, headers=_OFFER)
    answer.raise_for_status()
    await peer.setRemoteDescription(RTCSessionDescription(sdp=answer.text, type="answer"))
    return answer
