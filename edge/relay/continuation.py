"""Going on with an answer whose engine failed in the middle, at another one; see `edge/protocol/seam.py`.

Off unless the model's policy says otherwise: then, and only then, what a stream delivers is remembered.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from edge.protocol.request import Call, Operation
from edge.protocol.seam import Seam, unfit
from edge.relay.backends import Backends
from edge.relay.choices import Choices
from edge.streams.stream import Stream
from streamkit.flow.budget import Account
from streamkit.ops import catalog
from streamkit.ops.metrics import Metrics
from streamkit.wire.errors import Code, HeadraceError
from streamkit.wire.openai import Usage
from streamkit.wire.route import Candidate

__all__ = ["Continuation", "Continuations"]

#: Failures of an engine, and not of our bounds or of the reader.
_MENDABLE: Final = frozenset({Code.STREAM_BROKEN, Code.STREAM_STALLED})
_STEP_BYTES: Final = 64 * 1024


class Continuations:
    """What all streams of an edge share.

    Args:
        backends: this edge's.
        account: memory for what was delivered.
        max_bytes: bound of one answer's text.
        metrics: where continuations are counted.
    """

    def __init__(self, backends: Backends, account: Account, *, max_bytes: int, metrics: Metrics) -> None:
        self.backends = backends
        self.account = account
        self.max_bytes = max_bytes
        self._metrics = metrics

    def of(self, call: Call, stream: Stream, candidates: Sequence[Candidate]) -> Continuation | None:
        """Return what remembers one stream, or None where its request asks for more than text."""
        if call.operation is not Operation.CHAT or not call.stream or unfit(call.body) is not None:
            return None
        return Continuation(self, call, stream, candidates)

    def count(self, outcome: str) -> None:
        """Count one seam: joined, failed; or an answer that could not be continued: unfit."""
        self._metrics.counter(catalog.CONTINUATIONS, outcome).value += 1


class Continuation:
    """One stream's memory of what it delivered, and its way over a seam. Made by `Continuations.of`."""

    __slots__ = (
        "_call",
        "_candidates",
        "_joining",
        "_reserved_bytes",
        "_seam",
        "_shared",
        "_stream",
        "choices",
        "error",
        "frame",
    )

    def __init__(self, shared: Continuations, call: Call, stream: Stream, candidates: Sequence[Candidate]) -> None:
        self._shared = shared
        self._call = call
        self._stream = stream
        self._candidates = candidates
        self._seam = Seam(shared.max_bytes)
        self._reserved_bytes = 0
        self._joining = False
        #: Who could go on.
        self.choices = Choices((), shared.backends)
        #: Why the last half ended, to be told when nobody can go on.
        self.error: HeadraceError | None = None
        self.frame: bytes | None = None

    @property
    def joining(self) -> bool:
        """A half has broken off: what comes now is another engine's."""
        return self._joining

    def feed(self, data: bytes, count: int, now: float) -> None:
        """Remember events and send them on: stands in for `Stream.feed`."""
        if self._joining:
            data = self._seam.join(data)
        seam = self._seam
        seam.saw(data)
        if seam.held_bytes > self._reserved_bytes:
            if self._shared.account.reserve(_STEP_BYTES):
                self._reserved_bytes += _STEP_BYTES
            else:
                seam.possible = False
        self._stream.feed(data, count, now)

    def broke(self, error: HeadraceError, frame: bytes | None, failed: Candidate) -> bool:
        """A half has broken off; return whether somebody could be asked to go on."""
        self.error, self.frame = error, frame
        if error.code not in _MENDABLE or self._seam.request(self._call.body) is None:
            self._shared.count("unfit")
            return False
        others = [one for one in self._candidates if one.continues and one.model == failed.model]
        # The one that failed is asked last: it may be as well as ever, and only the connection broke.
        others.sort(key=lambda one: one is failed)
        self.choices = Choices(others, self._shared.backends)
        self._joining = True
        return True

    def call(self) -> Call:
        """Return the request for the next half; what comes from now on is that engine's."""
        body = self._seam.request(self._call.body)
        self._seam.begin()
        return self._call if body is None else msgspec.structs.replace(self._call, body=body)

    def give_up(self) -> None:
        """Nobody goes on: tell the client what ended the half that it has."""
        self._shared.count("failed")
        if self.error is not None:
            self._stream.fail(self.error, self.frame)

    def joined(self) -> None:
        """The next half has begun."""
        self._shared.count("joined")

    def whole(self, usage: Usage) -> Usage:
        """Return the last half's usage with the earlier halves counted as answer, not as prompt."""
        before = self._seam.joined
        return Usage(
            prompt_tokens=max(0, usage.prompt_tokens - before),
            completion_tokens=(usage.completion_tokens or 0) + before,
            total_tokens=usage.total_tokens,
        )

    def close(self) -> None:
        """Forget everything."""
        self._shared.account.release(self._reserved_bytes)
        self._reserved_bytes = 0
        self._seam.possible = False
