"""Every fault, named for the case that finds it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

__all__ = ["FAULTS", "Faults"]

FAULTS: Final[dict[str, str]] = {
    "stream-content-type": "streams are declared as application/json",
    "stream-length": "streams are declared as gzip when gzip is offered",
    "stream-caching": "streams invite caches to keep them",
    "done-once": "[DONE] is sent twice",
    "chunk-shape": "chunks are called chat.completion",
    "finish-once": "the chunk with the finish_reason is sent twice",
    "sdk-safe": "the stream opens with a bare retry field",
    "whole-answer": "usage is left out of whole answers",
    "models-list": "no model is listed",
    "request-id": "every answer has the same X-Request-Id",
    "abandoned-streams": "each departed client uses up a slot",
    "streaming-usage": "total_tokens is wrong",
    "cancel-before-first-event": "departures are not watched for before the first event",
    "cancel-mid-stream": "departures are not watched for while tokens flow",
    "cancel-in-silence": "departures are noticed by failed writes only",
    "cancel-non-stream": "departures are not watched for while a whole answer is made",
    "cancel-burst": "of many departures at a time every other one is missed",
    "half-close": "after a half-close nothing more is written, and the engine is left running",
    "4xx-verbatim": "the engine's message is replaced by a phrase",
    "5xx": "the engine's 500 is answered with 200",
    "5xx-html": "an engine's error page is answered with 200",
    "busy": "a full engine is answered with 500",
    "rate-limited": "429 becomes 503",
    "error-frame-first": "an error frame before the first event is dropped",
    "engine-401": "the engine's 401 is answered with 200",
    "closed-without-answer": "no answer at all looks like an empty stream",
    "no-stream": "an answer that is no stream becomes an empty stream",
    "empty-stream": "an empty stream looks complete",
    "nonstream-verbatim": "characters beyond ASCII are dropped from whole answers",
    "first-event-at-once": "the first token waits for the second",
    "no-batching": "events are gathered for 60 ms",
    "concurrent-streams": "with many streams open an event is lost",
    "slow-reader-apart": "a full client buffer delays everybody",
    "bounded-buffer": "nobody waits for a slow reader",
    "no-stale-bytes": "an abandoned answer's last event opens the next one",
    "reuse-after-outcome": "bytes that belong to no answer follow a 400",
    "split-anywhere": "a chunk of one byte is dropped",
    "crlf": "only LF ends a line",
    "utf8-split": "each read is decoded by itself",
    "many-in-one": "of many events in one read the later ones are lost",
    "big-event": "events over 64 KiB are dropped",
    "several-data-lines": "only an event's first data line is kept",
    "comments": "a comment loses its colon",
    "byte-faithful": "replacement characters are dropped",
    "tool-calls": "tool-call arguments are gathered until the end",
    "logprobs": "logprobs are dropped",
    "n-choices": "every choice gets index 0",
    "keep-alive": "the connection closes after a stream without saying so",
    "pipelining": "what a client sent ahead is dropped",
    "http-1.0": "HTTP/1.0 clients get chunked framing",
    "expect-100": "a body that waits for 100 Continue is never read",
    "chunked-request": "a chunked request body is taken as empty",
    "slow-request": "a request must come in one read",
    "header-flood": "headers are unbounded",
    "two-faced-framing": "Content-Length beside Transfer-Encoding is ignored",
    "retry-closed": "the answer after a closed attempt lacks its first token",
    "retry-busy": "the answer after a busy attempt lacks its first token",
    "retry-after-role": "the broken attempt's role chunk is sent, too",
    "retry-error-frame": "the answer after an error frame lacks its first token",
    "no-repeat": "a stream that broke after its first token is begun again",
    "no-retry-4xx": "a 400 is asked for again elsewhere",
    "stale-connection": "a kept connection that was closed gives an empty stream",
    "stall-before-first-event": "there is no deadline before the first event",
    "stall-mid-stream": "there is no deadline for silence after the first event",
    "pings-hide-no-stall": "comments count as life",
    "heartbeat-before-first-event": "there are no heartbeats before the first event",
    "heartbeat-mid-stream": "there are no heartbeats after the first event",
    "heartbeat-between-events": "a heartbeat pushes out the half event before it",
    "ids-and-pings": "the engine's ids, retry fields and comments are passed on",
    "bad-json": "a body that is no JSON is a 500",
    "no-messages": "a missing field is a 500",
    "unknown-model": "an unknown model is a 500",
    "wrong-key": "any key will do",
    "wrong-method": "a wrong method is a 500",
    "wrong-path": "a wrong path is an empty success",
    "too-large": "a body that is too large is a 500",
    "wrong-type": "a wrong content type is a 500",
    "head": "HEAD is answered with a body",
    "options": "OPTIONS is a 500",
    "reset-mid-stream": "a reset ends a stream as if it were complete",
    "eof-mid-stream": "a broken body ends a stream as if it were complete",
    "no-done": "a body that ends well is a complete answer",
    "no-finish-reason": "where a finish_reason is missing one is made up",
    "no-invented-finish": "a broken answer gets a finish_reason before its error",
    "half-event": "the half event goes out before the error frame",
    "error-frame": "error frames in mid-stream are dropped",
    "done-after-error": "nothing follows an error frame",
    "broken-whole-answer": "half a whole answer is handed on with the length that it has",
    "pool-after-break": "the request after a broken stream is refused",
    "usage-asked": "completion tokens are counted twice",
    "usage-not-asked": "usage is not taken out for those who did not ask",
    "request-faithful": "the temperature is rounded",
    "trace-context": "every request starts a new trace",
    "long-prompt": "bodies over 256 KiB are refused",
    "one-identity": "the last chunk has an id of its own",
    "resume": "the event after a drop is skipped",
    "resume-sdk-safe": "heartbeats among ids end in a blank line",
    "resume-unknown": "an unknown stream is an empty one",
}


class Faults:
    """Which of them are switched on.

    Raises:
        ValueError: one is unknown.
    """

    def __init__(self, names: Iterable[str] = ()) -> None:
        self._names = frozenset(names)
        if unknown := self._names - FAULTS.keys():
            raise ValueError(f"no such fault: {', '.join(sorted(unknown))}")

    def on(self, name: str) -> bool:
        """Whether this one is switched on."""
        return name in self._names
