"""The resumable streams of one edge instance, by id, and the memory that their rings may use together."""

from __future__ import annotations

import asyncio
from typing import Final

import msgspec

from edge.protocol.ring import Ring
from edge.streams.kept import Kept, KeptTimings, Owner
from edge.streams.stream import Stream
from streamkit.flow.budget import Account
from streamkit.ops import catalog
from streamkit.ops.metrics import Metrics
from streamkit.wire.errors import Code, HeadraceError
from streamkit.wire.ids import Instance, StreamIds

__all__ = ["Shelf", "ShelfSettings"]

_UNKNOWN: Final = "No stream of yours has this id."


class ShelfSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Bounds of resumable streams."""

    #: The longest window that a client may ask for, in seconds; 0 = nothing is resumable.
    longest_s: float
    #: Of one ring.
    ring_bytes: int
    #: Of all rings together.
    rings_bytes: int
    slow_reader_s: float


class Shelf:
    """Keeps resumable streams until they are released.

    Args:
        ids: makes and checks stream ids.
        settings: bounds.
        account: the process budget's, charged with the rings.
        metrics: where everything is counted.
    """

    def __init__(self, ids: StreamIds, settings: ShelfSettings, account: Account, metrics: Metrics) -> None:
        self.ids = ids
        self.settings = settings
        self._account = account
        self._kept: dict[str, Kept] = {}
        #: Over and unread, the oldest first.
        self._spare: dict[str, Kept] = {}
        self._news = asyncio.Event()
        self._resumes = metrics.counter(catalog.RESUMES)
        self._takeovers = metrics.counter(catalog.TAKEOVERS)
        self._expired = metrics.counter(catalog.RESUME_EXPIRED)
        metrics.watch(catalog.STREAMS_DETACHED, lambda: [((), float(self.detached))])
        metrics.watch(catalog.STREAMS_KEPT, lambda: [((), float(len(self._kept)))])

    @property
    def detached(self) -> int:
        """Streams that run on with nobody reading."""
        return sum(kept.detached for kept in self._kept.values())

    def keep(self, stream: Stream, owner: Owner, window_s: float) -> Kept:
        """Make a stream resumable, before anything is fed to it."""
        stream_id = self.ids.new()
        kept = self._kept[stream_id] = Kept(
            stream_id,
            owner,
            stream,
            Ring(self.settings.ring_bytes, self),
            timings=KeptTimings(window_s=window_s, slow_reader_s=self.settings.slow_reader_s),
            keeper=self,
            loop=asyncio.get_running_loop(),
        )
        return kept

    def find(self, stream_id: str, owner: Owner) -> Kept | Instance:
        """Return a stream, or the other instance that has it.

        Raises:
            HeadraceError: NOT_FOUND for ids that are unknown, malformed, forged or somebody else's; GONE for one of
                this instance that was released.
        """
        kept = self._kept.get(stream_id)
        if kept is not None:
            if kept.owner != owner:
                raise HeadraceError(Code.NOT_FOUND, _UNKNOWN)
            return kept
        instance = self.ids.owner(stream_id)
        if instance is None:
            raise HeadraceError(Code.NOT_FOUND, _UNKNOWN)
        if instance == self.ids.instance:
            raise HeadraceError(Code.GONE, "This stream is no longer kept. Ask the question again.")
        return instance

    async def read_out(self) -> None:
        """Return once every stream that is over was sent to its end, or released: what a drain waits for."""
        while any(kept.stream.state.ended and not kept.read_out for kept in self._kept.values()):
            self._news.clear()
            await self._news.wait()

    def close(self) -> None:
        """Release everything: the process ends."""
        for kept in list(self._kept.values()):
            kept.stream.gone()
            kept.release()

    # Memory, for rings

    def reserve(self, size_bytes: int) -> bool:
        """Charge a ring; streams that are over and unread make room."""
        account = self._account
        while account.used_bytes + size_bytes > self.settings.rings_bytes or not account.reserve(size_bytes):
            if not self._spare:
                return False
            next(iter(self._spare.values())).release()
        return True

    def release(self, size_bytes: int) -> None:
        """Give back what a ring was charged with."""
        self._account.release(size_bytes)

    # Keeper

    def resumed(self, *, takeover: bool) -> None:
        """A reader has come back."""
        (self._takeovers if takeover else self._resumes).value += 1

    def spare(self, kept: Kept, *, yes: bool) -> None:
        """A stream may be released where memory is short, or not any more."""
        self._news.set()
        if yes:
            self._spare[kept.stream_id] = kept
        else:
            self._spare.pop(kept.stream_id, None)

    def expired(self) -> None:
        """A window is over."""
        self._expired.value += 1

    def released(self, kept: Kept) -> None:
        """Nothing is kept of it any more."""
        self._kept.pop(kept.stream_id, None)
        self._news.set()
