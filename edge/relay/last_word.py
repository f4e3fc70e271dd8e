"""What a client is told when nobody can help it any more."""

from __future__ import annotations

from edge.protocol.refusals import Verdict
from edge.protocol.states import StreamState
from edge.streams.contracts import Outcome, Reply
from edge.streams.stream import Stream
from streamkit.wire.errors import Code, HeadraceError
from streamkit.wire.openai import error_of

__all__ = ["tell"]


def tell(stream: Stream, verdict: Verdict, outcome: Outcome | None) -> None:
    """End a stream with what its last attempt met.

    Args:
        stream: has not ended.
        verdict: on the last attempt.
        outcome: of it, where there was one: the engine's own words.
    """
    if verdict.error is not None:
        stream.fail(verdict.error)
        return
    body = outcome.body if outcome is not None else b""
    said = error_of(body, event=False)
    code = Code.NOT_FOUND if verdict.status == 404 else Code.INVALID_REQUEST
    error = HeadraceError(code, said.message if said else f"The backend refused with HTTP {verdict.status}.")
    if stream.state is StreamState.PENDING and said is not None:
        # The engine's own verdict on the request, byte for byte.
        stream.answer(Reply(status=verdict.status, body=body), error)
    else:
        stream.fail(error)
