"""One instance among the others, put together: where it listens for them, what it says of that, what it asks with."""

from __future__ import annotations

import logging
import secrets

import msgspec

from edge.endpoints.parts import Parts
from edge.endpoints.peer import PeerApp
from edge.server.peering import peer_socket, peer_tls
from edge.server.protocol import protocol_class
from edge.settings import EdgeSettings
from edge.sources.peers import Peers
from edge.streams.reading import RELAYED_PATIENCE
from streamkit.ops import log
from streamkit.ops.listener import BindError, Listener, bound
from streamkit.ops.metrics import Metrics
from streamkit.ops.settings import SettingsError
from streamkit.wire.address import place
from streamkit.wire.ids import KEY_BYTES, Instance, StreamIds
from streamkit.wire.keys import STREAM_IDS
from streamkit.wire.state import Snapshot

__all__ = ["Neighbours"]

_LOG = logging.getLogger("headrace.edge.peers")


class Neighbours:
    """How one instance and its peers reach each other's streams.

    Args:
        settings: the edge's.
        instance: this one.
        metrics: where requests to peers are counted.

    Raises:
        SettingsError: files, folders or keys that are named cannot be used.
    """

    def __init__(self, settings: EdgeSettings, instance: Instance, metrics: Metrics) -> None:
        self._settings = settings
        self._instance = instance
        self._given_key = settings.stream_key()
        #: Makes and checks stream ids. Its key is this process's own until control has handed out the edges'.
        self.ids = StreamIds(instance, self._given_key or secrets.token_bytes(KEY_BYTES))
        files = settings.peer_tls()
        self._tls = peer_tls(files) if files is not None else None
        #: Path of the Unix socket; empty = there is none.
        self.socket = ""
        #: Address for other nodes; empty = there is none.
        self.url = ""
        try:
            self.socket = peer_socket(settings.peer_dir, instance)
        except SettingsError as error:
            if settings.peer_dir:
                raise
            log.event(_LOG, "peers.no_socket", level=logging.WARNING, reason=str(error))
        #: Asks other instances.
        self.peers = Peers(
            instance.node,
            settings.pool_settings(),
            settings.peer_limits(),
            self._tls[1] if self._tls is not None else None,
            metrics,
        )

    def update(self, snapshot: Snapshot) -> None:
        """Learn from control who is there, and the key of stream ids."""
        self.peers.update(snapshot.edges)
        key = snapshot.keys.secrets.get(STREAM_IDS)
        if key and self._given_key is None:
            self.ids.rekey(bytes.fromhex(key))

    def listeners(self, parts: Parts) -> tuple[Listener, ...]:
        """Return where this instance listens for its peers."""
        settings, app = self._settings, PeerApp(parts)
        limits = settings.server_limits()
        # A relaying instance shuts its window for as long as its client takes for a gulp.
        patient = msgspec.structs.replace(limits, user_timeout_ms=limits.user_timeout_ms * RELAYED_PATIENCE)
        http = protocol_class(patient)
        found: list[Listener] = []
        if self.socket:
            found.append(Listener(app=app, path=self.socket, http=http, keep_alive_ms=settings.keep_alive_ms))
        if self._tls is not None and settings.peer_host:
            found.append(
                Listener(
                    app=app,
                    host=settings.peer_host,
                    port=self._port(),
                    http=http,
                    tls=self._tls[0],
                    keep_alive_ms=settings.keep_alive_ms,
                    on_bound=self._bound,
                )
            )
        return tuple(found)

    def _port(self) -> int:
        """Return the worker's port; a free one while the life before it still drains there, as the registry tells."""
        port = self._settings.peer_port and self._settings.peer_port + self._instance.worker
        try:
            with bound(Listener(app=_nobody, host=self._settings.peer_host, port=port)):
                return port
        except BindError as error:
            log.event(_LOG, "peers.port_taken", level=logging.WARNING, reason=str(error))
            return 0

    def _bound(self, url: str) -> None:
        name = self._settings.peer_name or self._settings.peer_host
        self.url = f"https://{place(name, int(url.rpartition(':')[2]))}"


async def _nobody(*_: object) -> None:
    """Stand in for the application behind an address that is only tried."""
