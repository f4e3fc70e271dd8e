"""What is measured: the streams and requests that each scenario sends through a gateway."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final


@dataclass(frozen=True, slots=True)
class StreamScenario:
    """Streams that stay open for the whole measuring window.

    Args:
        name: for the command line.
        streams: how many are open at a time.
        tokens_per_s: tokens of each stream a second; 0 = as fast as they are taken.
        step: all streams' tokens are sent together, as one engine step emits them.
        ramp_per_s: streams opened a second.
        window_s: shortest measuring window, in seconds.
        memory: what is wanted is memory, so the gateway's is taken before and after.
        resumable: our header for resume is sent, which means nothing to others: what ids and a replay ring cost.
    """

    name: str
    streams: int
    tokens_per_s: float
    step: bool = False
    ramp_per_s: float = 150.0
    window_s: float = 0.0
    memory: bool = False
    resumable: bool = False

    @property
    def title(self) -> str:
        """Say for people what it is."""
        streams = f"{self.streams:,} streams"
        if self.saturating:
            return f"{streams} as fast as they go (no target)"
        if self.memory:
            return f"{streams}, one token every {1 / self.tokens_per_s:g} s"
        more = ", resumable" if self.resumable else ""
        return f"{streams} x {self.tokens_per_s:g} tokens/s, {'all in step' if self.step else 'staggered'}{more}"

    @property
    def saturating(self) -> bool:
        """Nothing but the slowest part limits it."""
        return self.tokens_per_s == 0

    @property
    def interval_ns(self) -> int:
        """Between two tokens of a stream, in ns; 0 when saturating."""
        return 0 if self.saturating else int(1e9 / self.tokens_per_s)

    def quick(self) -> StreamScenario:
        """Return a small version, for a smoke test."""
        return replace(self, streams=max(20, self.streams // 10), window_s=0.0)

    def estimate_s(self, seconds: float) -> float:
        """Guess how long one run takes, in seconds."""
        return 2.5 + self.streams / self.ramp_per_s + max(seconds, self.window_s)


@dataclass(frozen=True, slots=True)
class RequestScenario:
    """Short requests over kept connections.

    Args:
        name: for the command line.
        stream: streams of `tokens` at `tokens_per_s`; else whole answers.
        rate_per_s: Poisson arrivals a second; 0 = one after the other.
        in_flight_max: most requests under way.
        tokens: asked for in each request.
        tokens_per_s: pace of each stream.
    """

    name: str
    stream: bool
    rate_per_s: float
    in_flight_max: int
    tokens: int = 0
    tokens_per_s: float = 500.0

    @property
    def title(self) -> str:
        """Say for people what it is."""
        if not self.stream:
            return f"whole answers, {self.rate_per_s:,.0f} requests/s"
        if not self.rate_per_s:
            return "time to first token, one stream after the other"
        open_streams = self.rate_per_s * self.tokens / self.tokens_per_s
        return f"time to first token, {self.rate_per_s:g} streams/s, about {open_streams:.0f} open"

    @property
    def saturating(self) -> bool:
        """Never: arrivals are paced, or wait for the answer before."""
        return False

    @property
    def interval_ns(self) -> int:
        """Between two tokens of a stream, in ns."""
        return int(1e9 / self.tokens_per_s)

    def quick(self) -> RequestScenario:
        """Return a small version, for a smoke test."""
        return replace(self, rate_per_s=min(self.rate_per_s, 50.0))

    def estimate_s(self, seconds: float) -> float:
        """Guess how long one run takes, in seconds."""
        return 2.5 + seconds


Scenario = StreamScenario | RequestScenario

PACED: Final = "paced-20"
TTFT: Final = ("ttft", "ttft-busy")
IDLE: Final = "idle"

SCENARIOS: Final[tuple[Scenario, ...]] = (
    StreamScenario(PACED, 300, 20),
    StreamScenario("paced-50", 300, 50),
    StreamScenario("step-20", 300, 20, step=True),
    StreamScenario("resume-20", 300, 20, resumable=True),
    RequestScenario(TTFT[0], stream=True, rate_per_s=0, in_flight_max=1, tokens=4),
    RequestScenario(TTFT[1], stream=True, rate_per_s=100, in_flight_max=256, tokens=20, tokens_per_s=100),
    RequestScenario("nonstream", stream=False, rate_per_s=1000, in_flight_max=64, tokens=50),
    StreamScenario(IDLE, 2000, 0.2, ramp_per_s=250, window_s=10, memory=True),
    StreamScenario("saturated", 64, 0, ramp_per_s=100),
)


def files_needed(scenario: Scenario) -> int:
    """Return how many descriptors the busiest process needs: a gateway has two for each stream."""
    return 2 * (scenario.streams if isinstance(scenario, StreamScenario) else scenario.in_flight_max) + 256
