"""Whether viewers of avatars reach the media that an edge would send: by its `[edge.webrtc]`, and where it runs."""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from streamkit.ops.exposure import is_loopback
from streamkit.ops.settings import SettingsError

if TYPE_CHECKING:
    from edge.settings import EdgeSettings

__all__ = ["Doubt", "check_media", "contained", "doubts", "sends"]

_FOUND_IN = "docs/operations/avatar.md has the settings for each place"


class Doubt(NamedTuple):
    """What would keep some viewers from connecting."""

    #: `addresses` or `ports`.
    about: str
    seen: str
    do: str


def sends(edge: EdgeSettings) -> bool:
    """Whether this edge sends media over WebRTC at all."""
    return bool(edge.avatars.compositor_url) and edge.webrtc.enabled


def check_media(edge: EdgeSettings, where: str) -> None:
    """Return if the settings of avatars fit together, and the addresses can be told to a viewer.

    Raises:
        SettingsError: which do not, and why.
    """
    from edge.avatars.settings import check_avatars  # noqa: PLC0415  who asks has an edge's settings already

    try:
        check_avatars(edge.avatars, edge.webrtc)
    except SettingsError as error:
        raise SettingsError(f"{where}: {error}") from None
    for key in ("addresses", "public_addresses"):
        for text in getattr(edge.webrtc, key):
            address = ipaddress.ip_address(text)
            if address.is_unspecified or address.is_multicast:
                raise SettingsError(
                    f"{where}: edge.webrtc.{key}: {text} is told to viewers, who cannot send there: name an address"
                )


def contained(environment: Mapping[str, str] = os.environ, root: Path = Path("/")) -> bool:
    """Whether this is a container, whose addresses and ports may be nobody else's."""
    marks = (root / ".dockerenv", root / "run/.containerenv")
    return "KUBERNETES_SERVICE_HOST" in environment or any(mark.exists() for mark in marks)


def doubts(edge: EdgeSettings, *, inside: bool) -> list[Doubt]:
    """Return why viewers elsewhere might get no media; none where there is none to send, or nobody elsewhere.

    Args:
        edge: its settings.
        inside: it runs in a container.
    """
    webrtc = edge.webrtc
    # Through a relay no address and no port of this edge has to be reached.
    if not sends(edge) or webrtc.relay:
        return []
    beyond = [address for address in webrtc.addresses if not is_loopback(address)]
    found = []
    if not beyond and not webrtc.public_addresses:
        if is_loopback(edge.host):
            return []
        seen = f"media is sent from {', '.join(webrtc.addresses)} alone, so viewers elsewhere fall back to WebSocket"
        return [Doubt("addresses", seen, f"set edge.webrtc.addresses, or enabled = false; {_FOUND_IN}")]
    if inside and not webrtc.public_addresses:
        private = [address for address in beyond if ipaddress.ip_address(address).is_private]
        if private:
            seen = f"in a container: viewers are told {', '.join(private)}, which may be the container's own address"
            do = f"set public_addresses to what viewers reach, unless it has the host's network; {_FOUND_IN}"
            found.append(Doubt("addresses", seen, do))
    ports = len(webrtc.ports())
    if inside and not ports:
        seen = "in a container: media takes any port, and one that is not published is not reached"
        do = f"set port_min and port_max and publish the same range, unless it has the host's network; {_FOUND_IN}"
        found.append(Doubt("ports", seen, do))
    wanted = edge.avatars.max_viewers * max(1, edge.workers)
    if 0 < ports < wanted:
        seen = f"{ports} ports for up to {wanted:,} viewers: the last ones get 503 at_capacity"
        found.append(Doubt("ports", seen, "raise port_max, or lower edge.avatars.max_viewers"))
    return found
