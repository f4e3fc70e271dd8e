"""JetStream on a link: streams, what is stored, what is read; long, because all of it fails in one way.

Every call has a deadline and fails with `JetError`; waiting for a broker that is away is the caller's business. A
reader goes on behind the last message that it gave, whatever became of the connection or the broker in between.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import msgspec

from streamkit.ops.nats_link import NatsLink
from streamkit.ops.streams import Source, SourceFigures, Stored, StreamAnswer, StreamFigures, StreamPlan
from streamkit.wire.unreadable import UNREADABLE

if TYPE_CHECKING:
    from nats.js import JetStreamContext
    from nats.js.api import StreamConfig

__all__ = ["JetError", "JetLink", "Source", "SourceFigures", "Stored", "StreamFigures", "StreamPlan", "TooLargeError"]

_CALL_S: Final = 3.0
_REACH_S: Final = 1.0
_RETRY_S: Final = 0.25
_NOT_FOUND: Final = 404
#: The headers of a message that is stored, beside the id and the stream in them.
_HEADERS_BYTES: Final = len("NATS/1.0\r\nNats-Msg-Id: \r\nNats-Expected-Stream: \r\n\r\n")
#: Messages that one fetch may bring.
_BATCH: Final = 256
_FETCH_S: Final = 2.0
#: A reader that is gone for so long is forgotten by the broker.
_FORGET_S: Final = 30.0
#: Copies of a message are known for so long; resumed feeds repeat at most the last second.
_COPIES_S: Final = 600.0


class JetError(Exception):
    """JetStream did not do as it was asked; the message is one line for a person."""


class TooLargeError(JetError):
    """The server takes no message of that size, now or ever."""


@dataclass(slots=True)
class _Reading:
    """Where one reader is."""

    after: int
    since: datetime | None
    consumer: int = 0
    filters: tuple[str, ...] = field(default_factory=tuple)


class JetLink(NatsLink):
    """A link that also speaks to the JetStream of the broker behind it."""

    async def ready(self, *, within_s: float) -> bool:
        """Wait for the broker; False = it is not there in time."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                while not self.connected:  # noqa: ASYNC110 - the link tries four times a second
                    await asyncio.sleep(0.02)
        return self.connected

    async def ensure(self, plan: StreamPlan) -> None:
        """Have a stream as planned: made, or changed where it is another one.

        Raises:
            JetError: the broker is away, has no JetStream, or refuses.
        """
        from nats.js.errors import NotFoundError  # noqa: PLC0415  loaded by whoever sets an address

        config = _config(plan)
        js = self._context()
        with _told():
            try:
                found = await js.stream_info(plan.name)
            except NotFoundError:
                await js.add_stream(config)
                return
            if _differs(found.config, config):
                await js.update_stream(config)

    async def put(self, subject: str, message: bytes, *, id: str, stream: str) -> None:  # noqa: A002 - its name
        """Have a message stored; one with an id that the stream has is stored once.

        Raises:
            TooLargeError: the server will never take it.
            JetError: it may not be stored.
        """
        js = self._context()
        # The server counts headers too and ends the connection over them; the library looks at the message alone.
        size = len(message) + _HEADERS_BYTES + len(id) + len(stream)
        if self._client is not None and size > self._client.max_payload:
            raise TooLargeError("the message and its headers are larger than the server takes (max_payload)")
        with _told():
            await js.publish(subject, message, timeout=_CALL_S, stream=stream, headers={"Nats-Msg-Id": id})

    async def figures(self, stream: str) -> StreamFigures | None:
        """Return what is in a stream; None = there is no such stream.

        Raises:
            JetError: the broker is away, or has no JetStream.
        """
        answer = await self._asked(f"$JS.API.STREAM.INFO.{stream}")
        if answer is None or answer.state is None:
            return None
        state = answer.state
        sources = tuple(
            SourceFigures(
                stream=source.name,
                domain=_domain(source.external.get("api", "") if source.external else ""),
                lag=source.lag,
                heard_s=None if source.active < 0 else source.active / 1e9,
            )
            for source in answer.sources
        )
        return StreamFigures(
            messages=state.messages, bytes=state.bytes, first=state.first_seq, last=state.last_seq, sources=sources
        )

    async def reaches(self, domain: str) -> bool:
        """Say whether a JetStream domain answers, over whatever leaf connection."""
        try:
            return await self._asked(f"$JS.{domain}.API.INFO", within_s=_REACH_S) is not None
        except JetError:
            return False

    async def wake(self, plan: StreamPlan, domain: str) -> None:
        """Have a gathering stream begin anew with one source, behind the last message that it has of it.

        The server itself tries a source that was away again after tens of seconds only.

        Raises:
            JetError: the broker is away, or refuses.
        """
        js = self._context()
        without = replace(plan, sources=tuple(source for source in plan.sources if source.domain != domain))
        with _told():
            await js.update_stream(_config(without))
            await js.update_stream(_config(plan))

    async def messages(
        self,
        stream: str,
        *,
        filters: tuple[str, ...] = (),
        after: int = 0,
        since: datetime | None = None,
        follow: bool = True,
    ) -> AsyncIterator[Stored]:
        """Yield a stream's messages in order, each once, over every break of the connection.

        A stream that was made anew since, and counts from one again, is read from its beginning.

        Args:
            stream: its name.
            filters: patterns of subjects; empty = all.
            after: the sequence behind which to begin; 0 = at the beginning.
            since: where nothing was read yet, begin at messages stored from then on.
            follow: wait for further messages; else end with the last one that is there.

        Raises:
            JetError: without `follow`, as soon as anything fails; with it, only when there is no such stream.
        """
        reading = _Reading(after, since, filters=filters)
        while True:
            try:
                async for message in self._read_on(stream, reading, follow=follow):
                    reading.after, reading.since = message.sequence, None
                    yield message
            except JetError:
                if not follow:
                    raise
            else:
                if not follow:
                    return
            await asyncio.sleep(_RETRY_S)

    async def _read_on(self, stream: str, reading: _Reading, *, follow: bool) -> AsyncIterator[Stored]:
        """Read by one consumer for as long as that goes well; return when another one is needed, or all was read."""
        from nats.errors import TimeoutError as NatsTimeoutError  # noqa: PLC0415  as above
        from nats.js import api  # noqa: PLC0415  as above

        js, life = self._context(), self.lives
        if reading.after and (found := await self.figures(stream)) is not None and found.last < reading.after:
            reading.after = 0  # it was made anew, on an empty disk: what it counts from one is new
        config = api.ConsumerConfig(
            ack_policy=api.AckPolicy.NONE,
            filter_subjects=list(reading.filters) or None,
            inactive_threshold=_FORGET_S,
            mem_storage=True,
        )
        if reading.after:
            config.deliver_policy, config.opt_start_seq = api.DeliverPolicy.BY_START_SEQUENCE, reading.after + 1
        elif reading.since is not None:
            config.deliver_policy = api.DeliverPolicy.BY_START_TIME
            config.opt_start_time = reading.since.astimezone(UTC)
        with _told():
            made = await js.add_consumer(stream, config=config)
            if not follow and not made.num_pending:
                return
            subscription = await js.pull_subscribe_bind(stream=stream, name=made.name)
        expected = 1
        try:
            while self.lives == life:
                with _told():
                    try:
                        batch = await subscription.fetch(_BATCH, timeout=_FETCH_S)
                    except (NatsTimeoutError, TimeoutError):
                        await js.consumer_info(stream, made.name)
                        continue
                for message in batch:
                    place = message.metadata
                    if place.sequence.consumer != expected:
                        return  # one was lost on its way: begin anew behind the last
                    expected += 1
                    yield Stored(place.sequence.stream, message.subject, message.data, place.num_pending)
                    if not follow and not place.num_pending:
                        return
        finally:
            with contextlib.suppress(Exception):  # the connection may be gone, and then so is the subscription
                await subscription.unsubscribe()

    async def _asked(self, subject: str, *, within_s: float = _CALL_S) -> StreamAnswer | None:
        """Return what JetStream's own API answers; None = there is no such thing."""
        client = self._client
        if client is None or not client.is_connected:
            raise JetError("the NATS server is away")
        with _told():
            message = await client.request(subject, b"", timeout=within_s)
        try:
            answer = msgspec.json.decode(message.data, type=StreamAnswer)
        except UNREADABLE as error:
            raise JetError(f"no answer of JetStream: {error}") from error
        if answer.error is None:
            return answer
        if answer.error.code == _NOT_FOUND:
            return None
        raise JetError(f"JetStream refuses: {answer.error.description}")

    def _context(self) -> JetStreamContext:
        client = self._client
        if client is None or not client.is_connected:
            raise JetError("the NATS server is away")
        return client.jetstream(timeout=_CALL_S)


@contextlib.contextmanager
def _told() -> Iterator[None]:
    """Turn what the library raises into `JetError`."""
    from nats.errors import Error, MaxPayloadError  # noqa: PLC0415  as above
    from nats.js.errors import APIError, NoStreamResponseError  # noqa: PLC0415  as above

    try:
        yield
    except APIError as error:
        raise JetError(f"JetStream refuses: {error.description or error}") from error
    except NoStreamResponseError as error:
        raise JetError("no stream takes this subject") from error
    except MaxPayloadError as error:
        raise TooLargeError("the message is larger than the server takes (max_payload)") from error
    except (Error, OSError, TimeoutError) as error:
        raise JetError(f"no answer from JetStream: {str(error) or type(error).__name__}") from error


def _config(plan: StreamPlan) -> StreamConfig:
    from nats.js import api  # noqa: PLC0415  as above

    sources = [
        api.StreamSource(
            name=source.stream,
            external=api.ExternalStream(api=f"$JS.{source.domain}.API") if source.domain else None,
        )
        for source in plan.sources
    ]
    return api.StreamConfig(
        name=plan.name,
        subjects=list(plan.subjects) or None,
        sources=sources or None,
        retention=api.RetentionPolicy.LIMITS,
        discard=api.DiscardPolicy.OLD,
        storage=api.StorageType.FILE,
        max_bytes=plan.max_bytes,
        max_age=plan.max_age_s,
        duplicate_window=min(_COPIES_S, plan.max_age_s),
        num_replicas=1,
    )


def _domain(api: str) -> str:
    """Return the domain in the prefix of an API, `$JS.berlin.API`."""
    return api.removeprefix("$JS.").removesuffix(".API").removesuffix(".") if api.startswith("$JS.") else ""


def _differs(found: StreamConfig, wanted: StreamConfig) -> bool:
    """Say whether a stream is not as planned, in what a plan says."""

    def sources(config: StreamConfig) -> set[tuple[Any, ...]]:
        return {(source.name, source.external.api if source.external else "") for source in config.sources or ()}

    return (
        set(found.subjects or ()) != set(wanted.subjects or ())
        or sources(found) != sources(wanted)
        or found.max_bytes != wanted.max_bytes
        or found.max_age != wanted.max_age
    )
