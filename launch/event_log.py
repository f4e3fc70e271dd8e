"""The events that a broker keeps, for commands: which stream it is, and what of it is asked for."""

from __future__ import annotations

import argparse
import asyncio
import logging
import re
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import msgspec

from launch.screen import Screen
from streamkit.ops.command import carry_out
from streamkit.ops.jetstream import JetError, JetLink
from streamkit.ops.options import Parser
from streamkit.ops.settings import SettingsError
from streamkit.wire.telemetry import CENTRAL, EVENTS, KIND, SITE, Event
from streamkit.wire.unreadable import UNREADABLE

__all__ = ["Filter", "Found", "found_events", "kind", "plain", "run", "site"]

_DEFAULT: Final = "nats://127.0.0.1:7440"
_PATIENCE_S: Final = 3.0
_DECODER: Final = msgspec.json.Decoder(Event)
_BROKER: Final = re.compile(r"nats://[^/@\s]+")
_KIND: Final = re.compile(KIND)
_SITE: Final = re.compile(SITE)


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


def kind(text: str) -> str:
    """Read a kind of event, or the first words of one."""
    if _KIND.fullmatch(text) is None:
        raise argparse.ArgumentTypeError(f"expected a kind such as stream.end, or its first words, got {text}")
    return text


def site(text: str) -> str:
    """Read the name of a site."""
    if _SITE.fullmatch(text) is None:
        raise argparse.ArgumentTypeError(f"expected up to 32 of a-z, 0-9 and -, got {text}")
    return text


def run(
    parser: Parser, arguments: Sequence[str], main: Callable[[argparse.Namespace, Screen], Awaitable[int]]
) -> int:
    """Run a command that reads events, with the options that all of them have; 2 = there is nothing to read from."""
    parser.add_argument(
        "--nats", type=_broker, default=_DEFAULT, metavar="URL", help="the NATS server of a site or hub (%(default)s)"
    )
    parser.add_argument("--json", action="store_true", help="print JSON")

    async def ran(options: argparse.Namespace) -> int:
        return await main(options, Screen())

    # What the link says of its broker is for a service's log; a command says it in one line.
    logging.getLogger().addHandler(logging.NullHandler())
    return carry_out(parser, arguments, lambda options: asyncio.run(ran(options)))


def _broker(text: str) -> str:
    if _BROKER.fullmatch(text) is None:
        raise argparse.ArgumentTypeError(f"expected nats://HOST:PORT, got {text}")
    return text


async def found_events(
    url: str, asked: Filter, *, after: int | None = 0, since: datetime | None = None, follow: bool
) -> AsyncIterator[Found]:
    """Yield events in order, each once; the hub's gathered ones where the broker is the hub.

    A message that is no event, of whoever else writes to the broker, is left out, and told of on stderr.

    Args:
        url: of the broker.
        asked: which ones.
        after: the sequence behind which to begin; None = behind the newest.
        since: begin at events stored from then on.
        follow: go on for ever.

    Raises:
        SettingsError: the broker does not answer, or keeps no events, or none of the site that is asked for.
    """
    async with JetLink(url, name="headrace command") as link:
        if not await link.ready(within_s=_PATIENCE_S):
            raise SettingsError(f"no NATS server answers at {url}; --nats says where it is")
        try:
            stream, newest = await _stream(link, url)
            if asked.site and not await _knows(link, stream, asked.site):
                raise SettingsError(f"{url} keeps no events of a site {asked.site}")
            after = newest if after is None else after
            messages = link.messages(stream, filters=asked.subjects(), after=after, since=since, follow=follow)
            async for message in messages:
                try:
                    event = _DECODER.decode(message.data)
                except UNREADABLE as error:
                    print(f"{url}: message {message.sequence} is no event: {error}", file=sys.stderr)
                    continue
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


async def _knows(link: JetLink, stream: str, site: str) -> bool:
    """Say whether there is any event of a site."""
    async for _ in link.messages(stream, filters=Filter(site=site).subjects(), follow=False):
        return True
    return False


def plain(value: Any) -> str:
    """Return a value as one word of a line."""
    if isinstance(value, str):
        return value if value and " " not in value else msgspec.json.encode(value).decode()
    return msgspec.json.encode(value).decode()
