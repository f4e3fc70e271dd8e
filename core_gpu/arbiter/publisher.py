"""Telling the rest of the system how the backends of this host are: every 200 ms, and at once when it changes."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Final

import msgspec

from core_gpu.arbiter.settings import ArbiterSettings
from streamkit.ops import catalog
from streamkit.ops.metrics import Metrics
from streamkit.ops.nats_link import NatsLink
from streamkit.wire.ids import Instance, node_name
from streamkit.wire.state import (
    Ailing,
    ArbiterState,
    Header,
    Pressure,
    Residence,
    Want,
    ailing_subject,
    arbiter_subject,
    want_subject,
)

__all__ = ["Publisher", "publishing"]

#: A pressure that changed back and forth within this is told once.
_LEAST_S: Final = 0.005


class Publisher:
    """The one writer of this host's subject.

    Args:
        link: the way to the broker.
        instance: this life; its node is the host.
        read: returns pressure by backend.
        models: returns where models are, by backend.
        every_s: seconds between two publications.
    """

    def __init__(
        self,
        link: NatsLink,
        instance: Instance,
        read: Callable[[], Mapping[str, Pressure]],
        models: Callable[[], Mapping[str, dict[str, Residence]]] = dict,
        *,
        every_s: float,
    ) -> None:
        self.published = 0
        self._link = link
        self._instance = instance
        self._read = read
        self._models = models
        self._every_s = every_s
        self._sequence = 0
        self._changed = asyncio.Event()

    def changed(self) -> None:
        """Publish now."""
        self._changed.set()

    async def run(self) -> None:
        """Publish for ever."""
        subject = arbiter_subject(self._instance.node)
        while True:
            self._changed.clear()
            self._sequence += 1
            header = Header(instance=str(self._instance), sequence=self._sequence)
            host, models = self._instance.node, dict(self._models())
            state = ArbiterState(header=header, host=host, pressure=dict(self._read()), models=models)
            if await self._link.publish(subject, msgspec.json.encode(state)):
                self.published += 1
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._every_s):
                    await self._changed.wait()
            await asyncio.sleep(_LEAST_S)


@contextlib.asynccontextmanager
async def publishing(
    settings: ArbiterSettings,
    metrics: Metrics,
    read: Callable[[], Mapping[str, Pressure]],
    models: Callable[[], Mapping[str, dict[str, Residence]]],
    on_want: Callable[[Want], None],
    on_ailing: Callable[[Ailing], None],
) -> AsyncIterator[Publisher]:
    """Publish this host's pressure for the length of the block.

    Args:
        settings: the broker, the host's name, and how often.
        metrics: for the broker's presence and the publications.
        read: returns pressure by backend.
        models: returns where models are, by backend.
        on_want: told of models that are asked for and not resident.
        on_ailing: told of backends that are sick for their users.
    """
    instance = Instance.new(settings.node or node_name())
    link = NatsLink(settings.nats_url, name="headrace arbiter")
    link.read(want_subject(instance.node), lambda message: on_want(msgspec.json.decode(message, type=Want)))
    link.read(ailing_subject(instance.node), lambda message: on_ailing(msgspec.json.decode(message, type=Ailing)))
    async with link:
        publisher = Publisher(link, instance, read, models, every_s=settings.state_ms / 1000)
        metrics.watch(catalog.NATS_CONNECTED, lambda: [((), float(link.connected))])
        metrics.watch(catalog.STATES_PUBLISHED, lambda: [((), float(publisher.published))])
        task = asyncio.create_task(publisher.run(), name="publish pressure")
        try:
            yield publisher
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
