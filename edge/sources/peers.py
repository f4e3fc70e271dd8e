"""The other instances of the edge: where they are, by control's registry, and the connections to them."""

from __future__ import annotations

import ssl
from collections.abc import Iterable

from edge.sources.errand import run_errand
from edge.sources.peer import PeerLimits, PeerReading
from edge.sources.pool import Pool, PoolSettings
from edge.streams.contracts import Reply
from streamkit.ops import catalog
from streamkit.ops.metrics import Metrics
from streamkit.wire.errors import Code, HeadraceError
from streamkit.wire.ids import Instance
from streamkit.wire.state import EdgeReport

__all__ = ["KEY_HEADER", "TENANT_HEADER", "Peers"]

#: Who asks, as the instance that authenticated the client tells its peer: percent-encoded.
TENANT_HEADER = b"x-headrace-tenant"
KEY_HEADER = b"x-headrace-key"


class Peers:
    """Opens readings of streams at their owners.

    An address comes from the registry and never from an id: a Unix socket for a worker of this node, else TLS with
    certificates on both sides.

    Args:
        node: this one's name.
        settings: of connections.
        limits: of readings.
        tls: our certificate and the peers' authority; None = other nodes cannot be reached.
        metrics: where requests are counted.
    """

    def __init__(
        self, node: str, settings: PoolSettings, limits: PeerLimits, tls: ssl.SSLContext | None, metrics: Metrics
    ) -> None:
        self._node = node
        self._settings = settings
        self._limits = limits
        self._tls = tls
        self._metrics = metrics
        self._addresses: dict[str, str] = {}
        self._pools: dict[str, Pool] = {}

    def update(self, edges: Iterable[EdgeReport]) -> None:
        """Learn who is there now."""
        self._addresses = {edge.header.instance: self._address(edge) for edge in edges}
        for url in self._pools.keys() - set(self._addresses.values()):
            self._pools.pop(url).close()

    def knows(self, instance: Instance) -> bool:
        """Say whether control has heard of an instance lately, whether or not it can be reached from here."""
        return str(instance) in self._addresses

    def open(self, instance: Instance, request: bytes, headers: Iterable[tuple[bytes, bytes]]) -> PeerReading | None:
        """Ask an instance that is known; None if there is no way there.

        Args:
            instance: the owner.
            request: method and path.
            headers: of the request.
        """
        pool = self._pool(instance)
        return None if pool is None else PeerReading(pool, _head(pool, request, headers), self._limits)

    async def errand(
        self,
        instance: Instance,
        request: bytes,
        headers: Iterable[tuple[bytes, bytes]],
        body: bytes,
        timeout_s: float,
    ) -> Reply:
        """Have an instance answer a whole request.

        Args:
            instance: who.
            request: method and path.
            headers: of the request, without the length of its body.
            body: of the request.
            timeout_s: for its whole answer.

        Raises:
            HeadraceError: NO_ROUTE where there is no way there; what `run_errand` raises.
        """
        pool = self._pool(instance) if self.knows(instance) else None
        if pool is None:
            text = "The edge that has this avatar session cannot be reached from this one (peer_* settings)."
            raise HeadraceError(Code.NO_ROUTE, text)
        length = (b"content-length", b"%d" % len(body))
        return await run_errand(pool, _head(pool, request, (*headers, length)), body, timeout_s=timeout_s)

    def _pool(self, instance: Instance) -> Pool | None:
        url = self._addresses[str(instance)]
        if not url:
            return None
        pool = self._pools.get(url)
        if pool is None:
            pool = self._pools[url] = Pool(url, self._settings, self._tls)
        self._metrics.counter(catalog.PEER_REQUESTS, url.partition(":")[0]).value += 1
        return pool

    def close(self) -> None:
        """Close idle connections."""
        for pool in self._pools.values():
            pool.close()

    def _address(self, edge: EdgeReport) -> str:
        if edge.peer_socket and Instance.parse(edge.header.instance).node == self._node:
            return f"unix:{edge.peer_socket}"
        return edge.peer_url if self._tls is not None and edge.peer_url.startswith("https://") else ""


def _head(pool: Pool, request: bytes, headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    lines = b"".join(b"%b: %b\r\n" % header for header in headers)
    return b"%b HTTP/1.1\r\nhost: %b\r\n%b\r\n" % (request, pool.authority, lines)
