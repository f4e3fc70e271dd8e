"""What the benchmark and its two load processes say to each other: one JSON object per line, over pipes.

All times are CLOCK_MONOTONIC, which every process of a machine shares.
"""

from __future__ import annotations

import msgspec

from loadtest.relay.stats import Quantiles


class Command(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Base of everything that the benchmark tells a load process."""


class Pace(Command, frozen=True, kw_only=True):
    """Backend: how streams that start from now on are sent."""

    #: Between two tokens of a stream; 0 sends as fast as the reader takes them.
    interval_ns: int
    #: All streams' tokens fall due together, as an engine's step emits them; else they are spread evenly.
    step: bool = False


class Finish(Command, frozen=True, kw_only=True):
    """Backend: end all open streams properly, now."""


class AskPacing(Command, frozen=True, kw_only=True):
    """Backend: tell what was sent since the last `Pace`."""


class OpenStreams(Command, frozen=True, kw_only=True):
    """Client: open streams and keep reading; answered with `Flowing`, then nothing until `AwaitEnd`."""

    host: str
    port: int
    count: int
    #: New streams a second, and the most that may be without their first token at a time.
    ramp_per_s: float
    pending_max: int = 64
    #: Answer by then, whether or not all streams flow.
    deadline_s: float
    #: Count tokens only, without a stamp for each: for the saturated case.
    counts_only: bool = False
    #: Each stream on a WebSocket of its own.
    websocket: bool = False
    #: Ask for streams that can be resumed, where the gateway knows what that is.
    resumable: bool = False


class AwaitEnd(Command, frozen=True, kw_only=True):
    """Client: wait for all streams' ends, give up after `deadline_s`; answered with `StreamsReport`."""

    deadline_s: float
    #: The measuring window.
    from_ns: int
    to_ns: int


class SendRequests(Command, frozen=True, kw_only=True):
    """Client: send requests over kept connections; answered with `RequestsReport` when all have ended."""

    host: str
    port: int
    stream: bool
    max_tokens: int
    #: Poisson arrivals a second; 0 = each connection sends its next request when it has its answer.
    rate_per_s: float
    #: Arrivals beyond this many requests under way are skipped and counted.
    in_flight_max: int
    #: The first of these is reached: requests sent, or time.
    count: int
    seconds: float
    #: Requests that have not ended so long after the last was sent are given up.
    deadline_s: float
    seed: int


class Listening(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """A load process is ready; the backend tells its port."""

    port: int = 0


class Pacing(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """What the backend did since the last `Pace`."""

    streams: int
    tokens: int
    #: Streams whose reader went away before their end.
    aborted: int
    #: Tokens that were not made because their stream's reader was 1 MiB behind.
    withheld: int
    #: How late tokens were sent after their due time, in us.
    late_us: Quantiles | None


class Flowing(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Streams are open: `count` of them have had a token."""

    count: int


class Outcomes(msgspec.Struct, frozen=True, kw_only=True):
    """How streams or requests ended; each is counted once."""

    #: Whole: every token arrived, then `[DONE]`, then the end of the body.
    whole: int = 0
    #: Connection closed, or body ended, before `[DONE]`.
    cut: int = 0
    #: A status other than 200, or no connection.
    refused: int = 0
    #: An error frame in the stream.
    errored: int = 0
    #: Ended properly, but tokens are missing or too many.
    miscounted: int = 0
    #: Still open when the time for draining was over.
    unfinished: int = 0

    @property
    def lost(self) -> int:
        """All that did not end as they should, those that the time ran out for left aside."""
        return self.cut + self.refused + self.errored + self.miscounted


class StreamsReport(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """What the client saw of its streams; tokens, transit and gaps are those of the window."""

    outcomes: Outcomes
    tokens: int
    transit_us: Quantiles | None
    #: Between two tokens of one stream.
    gap_ms: Quantiles | None
    #: From sending the request to the first token.
    ttft_ms: Quantiles | None
    #: First complaint of a gateway, for the log.
    complaint: str = ""


class RequestsReport(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """What the client saw of its requests."""

    outcomes: Outcomes
    #: Arrivals that found `in_flight_max` requests under way.
    skipped: int
    #: From the first request sent to the last end.
    seconds: float
    #: From the request's arrival to its first token (to its whole answer when it is not a stream).
    ttft_ms: Quantiles | None
    complaint: str = ""


class Failed(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """The load process cannot go on."""

    reason: str


BackendCommand = Pace | Finish | AskPacing
ClientCommand = OpenStreams | AwaitEnd | SendRequests
Reply = Listening | Pacing | Flowing | StreamsReport | RequestsReport | Failed
