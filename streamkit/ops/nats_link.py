"""One connection to NATS that finds its broker by itself, again and again; with `jetstream` what imports nats.

What goes through here are signals of which only the newest counts: nothing is kept for a broker that is away, and
nobody waits for it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, Final, Self

from streamkit.ops import log

if TYPE_CHECKING:
    from nats.aio.client import Client
    from nats.aio.msg import Msg

__all__ = ["NatsLink"]

_log = logging.getLogger(__name__)
#: The library sleeps so long between two attempts; it says `int` and takes any number.
_RETRY_S: Final[Any] = 0.25
#: A signal is a few hundred bytes; a larger message is nobody's.
_MESSAGE_BYTES: Final = 64 * 1024
#: What may wait to be read by this process; more is dropped, the newest will come again.
_BACKLOG_MESSAGES: Final = 1_024
_BACKLOG_BYTES: Final = 4 * 1024 * 1024
_CLOSE_S: Final = 1.0
#: Messages posted and not yet handed to the library.
_POSTS: Final = 256
_PING_S: Final = 2

Reader = Callable[[bytes], None]


class NatsLink:
    """A link; use it as an async context manager. Entering it does not wait for the broker.

    Args:
        url: where the broker answers: `nats://host:port`.
        name: shown by the broker for this connection.
    """

    def __init__(self, url: str, *, name: str) -> None:
        self.dropped = (
            0  #: messages that were not sent, because the broker was away, or not read, because of their size
        )
        self.lives = 0  #: connections made; a reader of a stream begins anew with each
        self._url = url
        self._name = name
        self._readers: dict[str, Reader] = {}
        self._client: Client | None = None
        self._connecting: asyncio.Task[None] | None = None
        self._away = False
        self._posting: set[asyncio.Task[None]] = set()

    @property
    def connected(self) -> bool:
        """Whether the broker is there now."""
        return self._client is not None and self._client.is_connected

    def read(self, subject: str, reader: Reader) -> None:
        """Have `reader` called with each message of `subject`; said before the link is entered."""
        self._readers[subject] = reader

    async def __aenter__(self) -> Self:
        self._connecting = asyncio.create_task(self._connect(), name="connect to NATS")
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._connecting is not None:
            self._connecting.cancel()
            await asyncio.gather(self._connecting, return_exceptions=True)
        if self._client is not None:
            with contextlib.suppress(Exception):  # nothing of ours is in it any more, whatever it thinks of its end
                async with asyncio.timeout(_CLOSE_S):
                    await self._client.close()

    def post(self, subject: str, message: bytes) -> None:
        """Publish without waiting; what cannot leave at once is dropped, as with `publish`."""
        if not self.connected or len(self._posting) >= _POSTS:
            self.dropped += 1
            return
        task = asyncio.create_task(self._post(subject, message), name="publish")
        self._posting.add(task)
        task.add_done_callback(self._posting.discard)

    async def _post(self, subject: str, message: bytes) -> None:
        await self.publish(subject, message)

    async def publish(self, subject: str, message: bytes) -> bool:
        """Hand a message to the broker; False when it is away, and then the message is gone."""
        client = self._client
        if client is None or not client.is_connected:
            self.dropped += 1
            return False
        from nats.errors import Error  # noqa: PLC0415  loaded long since

        try:
            await client.publish(subject, message)
        except (Error, OSError):
            self.dropped += 1
            return False
        return True

    async def _connect(self) -> None:
        # Whoever sets no address loads no library.
        from nats.aio.client import Client  # noqa: PLC0415
        from nats.errors import Error  # noqa: PLC0415

        while True:
            client = Client()
            try:
                await client.connect(
                    [self._url],
                    name=self._name,
                    connect_timeout=2,
                    # The first connection is tried by this loop, later ones by the library.
                    allow_reconnect=True,
                    max_reconnect_attempts=-1,
                    reconnect_time_wait=_RETRY_S,
                    ping_interval=_PING_S,
                    max_outstanding_pings=2,
                    error_cb=self._failed,
                    disconnected_cb=self._lost,
                    reconnected_cb=self._back,
                )
                for subject, reader in self._readers.items():
                    await client.subscribe(
                        subject,
                        cb=_reading(self, reader),
                        pending_msgs_limit=_BACKLOG_MESSAGES,
                        pending_bytes_limit=_BACKLOG_BYTES,
                    )
            except (Error, OSError, TimeoutError) as error:
                await self._failed(error)
                await asyncio.sleep(_RETRY_S)
            except asyncio.CancelledError:
                with contextlib.suppress(Exception):
                    await client.close()
                raise
            else:
                self._client = client
                await self._back()
                return

    async def _failed(self, error: Exception) -> None:
        """Say once for each outage that the broker is away."""
        if not self._away and not self.connected:
            self._away = True
            log.event(_log, "nats.away", level=logging.WARNING, url=self._url, reason=str(error) or repr(error))

    async def _lost(self) -> None:
        await self._failed(ConnectionError("the connection was lost"))

    async def _back(self) -> None:
        self._away = False
        self.lives += 1
        log.event(_log, "nats.connected", url=self._url)


def _reading(link: NatsLink, reader: Reader) -> Callable[[Msg], Coroutine[None, None, None]]:
    async def read(message: Msg) -> None:
        if len(message.data) > _MESSAGE_BYTES:
            link.dropped += 1
            return
        try:
            reader(message.data)
        except Exception:  # noqa: BLE001 - a callback's outermost frame: one bad message must not end the subscription
            _log.exception("nats.reader_failed")

    return read
