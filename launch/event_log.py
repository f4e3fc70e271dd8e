"""The events that a broker keeps, for commands: which stream it is, and what of it is asked for."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import msgspec

from streamkit.ops.jetstream import JetError, JetLink
from streamkit.ops.options import Parser
from streamkit.ops.settings import SettingsError
from streamkit.wire.telemetry import CENTRAL, EVENTS, Event

__all__ = ["Filter", "Found", "add_options", "found_events", "plain", "run"]

_DEFAULT: Final = "nats://127.0.0.1:7440"
_PATIENCE_S: Final = 3.0
_DECODER: Final = msgspec.json.Decoder(Event)


@dataclass(frozen=True, slots=True)
class Found:
    """An event and its place in the stream."""

    sequence: int
    event: Event


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """Which events are asked for; empty members ask for all."""

    #: A kind, or the first words of one.
    kind: str = ""
    site: str = ""
    request_id: str = ""
    tenant: str = ""

    def takes(self, event: Event) -> bool:
        """Say whether an event is one of those."""
        fields = event.fields
        return (
            (not self.kind or event.kind == self.kind or event.kind.startswith(self.kind + "."))
            and (not self.site or event.site == self.site)
            and (not self.request_id or fields.get("request_id") == self.request_id)
            and (not self.tenant or fields.get("tenant") == self.tenant)
        )

    def subjects(self) -> tuple[str, ...]:
        """Return the patterns of NATS subjects that such events have."""
        site = self.site or "*"
        if not self.kind:
            return (f"headrace.events.{site}.>",)
        return (f"headrace.events.{site}.{self.kind}", f"headrace.events.{site}.{self.kind}.>")


def add_options(parser: Parser) -> None:
    """Add what every command of this kind takes."""
    parser.add_argument(
        "--nats", default=_DEFAULT, metavar="URL", help="the NATS server of a site or hub (%(default)s)"
    )
    parser.add_argument("--json", action="store_true", help="print JSON")


async def found_events(
    url: str, asked: Filter, *, after: int | None = 0, since: datetime | None = None, follow: bool
) -> AsyncIterator[Found]:
    """Yield events in order, each once; the hub's gathered ones where the broker is the hub.

    Args:
        url: of the broker.
        asked: which ones.
        after: the sequence behind which to begin; None = behind the newest.
        since: begin at events stored from then on.
        follow: go on for ever.

    Raises:
        SettingsError: the broker does not answer, or keeps no events.
    """
    async with JetLink(url, name="headrace command") as link:
        if not await link.ready(within_s=_PATIENCE_S):
            raise SettingsError(f"no NATS server answers at {url}; --nats says where it is")
        try:
            stream, newest = await _stream(link, url)
            after = newest if after is None else after
            messages = link.messages(stream, filters=asked.subjects(), after=after, since=since, follow=follow)
            async for message in messages:
                event = _DECODER.decode(message.data)
                if asked.takes(event):
                    yield Found(message.sequence, event)
        except JetError as error:
            raise SettingsError(f"{url}: {error}") from None


async def _stream(link: JetLink, url: str) -> tuple[str, int]:
    """Return the stream to read, and its newest sequence."""
    for name in (CENTRAL, EVENTS):
        figures = await link.figures(name)
        if figures is not None:
            return name, figures.last
    raise SettingsError(f"{url} keeps no events yet: does headrace observe run beside it?")


def plain(value: Any) -> str:
    """Return a value as one word of a line."""
    if isinstance(value, str):
        return value if value and " " not in value else msgspec.json.encode(value).decode()
    return msgspec.json.encode(value).decode()


def run(main: Any) -> int:
    """Run a command's coroutine."""
    # What the link says of its broker is for a service's log; a command says it in one line.
    logging.getLogger().addHandler(logging.NullHandler())
    return int(asyncio.run(main))
