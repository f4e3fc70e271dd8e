"""Whether media of avatars leaves this machine by addresses that it has, and that viewers reach."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import TYPE_CHECKING

from launch.doctor.finding import Finding, bad, good, warning
from launch.doctor.roles import Roles
from launch.media import doubts, sends

if TYPE_CHECKING:
    from edge.settings import EdgeSettings

__all__ = ["media"]


def media(roles: Roles, *, inside: bool) -> Iterator[Finding]:
    """Judge `[edge.webrtc]`, where an edge with avatars is to run.

    Args:
        roles: what is to run here.
        inside: it is a container.
    """
    edge: EdgeSettings | None = roles.settings.get("edge")
    if edge is None or not sends(edge):
        return
    foreign = [address for address in edge.webrtc.addresses if not _ours(address)]
    if foreign:
        do = "name addresses of this machine (ip address), and in public_addresses what viewers call it"
        yield bad(
            "media.addresses", f"{', '.join(foreign)}: not an address of this machine: nobody would get media", do
        )
        return
    found = doubts(edge, inside=inside)
    for doubt in found:
        yield warning(f"media.{doubt.about}", doubt.seen, doubt.do)
    if not found:
        told = edge.webrtc.public_addresses or edge.webrtc.addresses
        ports = f"{edge.webrtc.port_min}-{edge.webrtc.port_max}/udp" if edge.webrtc.port_min else "any port"
        through = f"through {edge.webrtc.ice_servers[0]}" if edge.webrtc.relay else f"{', '.join(told)}, {ports}"
        yield good("media.addresses", f"viewers are told {through}")


def _ours(address: str) -> bool:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind((address, 0))
        except OSError:
            return False
    return True
