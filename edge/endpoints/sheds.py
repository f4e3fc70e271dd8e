"""Requests that were refused before any backend was asked, as events: each of a few, a sample of a flood."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from streamkit.flow.bucket import TokenBucket
from streamkit.flow.clock import MONOTONIC, Clock
from streamkit.ops.events import EventFeed
from streamkit.wire.errors import HeadraceError

if TYPE_CHECKING:
    from edge.endpoints.admission import Asked
    from edge.protocol.request import Call

__all__ = ["Sheds"]

_PER_S: Final = 20
_BURST: Final = 100


class Sheds:
    """Tells of refusals, 20 a second and 100 at once; the next one says how many were left out.

    Args:
        clock: monotonic seconds.
    """

    def __init__(self, clock: Clock = MONOTONIC) -> None:
        self._bucket = TokenBucket(_PER_S, _BURST, clock=clock)
        self._left_out = 0

    def tell(self, feed: EventFeed, error: HeadraceError, call: Call, asked: Asked) -> None:
        """Publish one refusal, unless it is the request's own fault, or a probe's."""
        if error.wire.status not in (429, 503) or call.probe:
            return
        if not self._bucket.try_take():
            self._left_out += 1
            return
        left_out, self._left_out = self._left_out, 0
        caller = asked.caller
        feed.publish(
            "stream.shed",
            {
                "request_id": asked.request_id,
                "operation": call.operation.value,
                "model": call.model[:256],
                "tenant": caller.tenant.name,
                "key_id": caller.key_id,
                "priority": caller.priority,
                "transport": asked.transport,
                "code": error.code.value,
                "reason": error.wire.reason,
                "left_out": left_out,
            },
        )
