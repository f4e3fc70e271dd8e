"""Which addresses and ports media uses. aioice binds every address but loopback, and any port (aioice#47).

A contract test holds what is used of aioice 0.13: `Connection.get_component_candidates` is asked once for each
component with addresses to bind, and returns candidates; protocols that were bound are in `_protocols`.
"""

from __future__ import annotations

import asyncio
import random
import socket
from collections.abc import Sequence
from typing import Final

import aioice
from aioice.candidate import candidate_foundation, candidate_priority
from aioice.ice import StunProtocol

from streamkit.wire.errors import Code, HeadraceError

__all__ = ["bind_to"]

#: For a TURN server that is not there; aioice would wait 5 s.
_TURN_S: Final = 2


def bind_to(connection: aioice.Connection, addresses: Sequence[str], ports: range) -> None:
    """Make a connection gather its candidates on `addresses` only, and on a port of `ports` (empty = any)."""
    relayed, ours = connection.get_component_candidates, tuple(addresses)

    async def gathered(
        component: int,
        addresses: list[str],
        timeout: int = _TURN_S,  # noqa: ASYNC109  as aioice calls it
    ) -> list[aioice.Candidate]:
        del addresses
        found = [await _bound(connection, component, address, ports) for address in ours]
        return [*found, *await relayed(component, [], min(timeout, _TURN_S))]

    # What gathering calls; there is no other way in.
    connection.get_component_candidates = gathered  # type: ignore[method-assign]


async def _bound(connection: aioice.Connection, component: int, address: str, ports: range) -> aioice.Candidate:
    """Bind one address.

    Raises:
        HeadraceError: AT_CAPACITY; no port is free.
    """
    loop = asyncio.get_running_loop()
    first = random.randrange(len(ports)) if ports else 0  # noqa: S311  which port is no secret
    reason: OSError | None = None
    for port in [*ports[first:], *ports[:first]] or [0]:
        # Bound here: uvloop leaks its own socket when a port is taken.
        sock = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM)
        try:
            sock.setblocking(False)
            sock.bind((address, port))
        except OSError as exc:
            sock.close()
            reason = exc
            continue
        transport, protocol = await loop.create_datagram_endpoint(lambda: StunProtocol(connection), sock=sock)
        host, number = transport.get_extra_info("sockname")[:2]
        protocol.local_candidate = aioice.Candidate(
            foundation=candidate_foundation("host", "udp", host),
            component=component,
            transport="udp",
            priority=candidate_priority(component, "host"),
            host=host,
            port=number,
            type="host",
        )
        connection._protocols.append(protocol)  # noqa: SLF001  aioice's own list of what is bound
        return protocol.local_candidate
    why = reason.strerror if reason is not None else "none is left"
    text = f"No UDP port for media is free ({why}); see edge.webrtc.addresses, port_min and port_max."
    raise HeadraceError(Code.AT_CAPACITY, text)
