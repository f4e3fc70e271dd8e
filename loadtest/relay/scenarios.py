"""What is measured: the streams and requests that each scenario sends through a gateway."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final


@dataclass(frozen=True, slots=True)
class StreamScenario:
    """Streams that stay open for the whole measuring window.

    Args:
        name: for the command line.
        title: for people.
        streams: how many are open at a time.
        tokens_per_s: tokens of each stream a second; 0 = as fast as they are taken.
        step: all streams' tokens are sent together, as one engine step emits them.
        ramp_per_s: streams opened a second.
        window_s: shortest measuring window, in seconds.
        memory: what is wanted is memory, so the gateway's is taken before and after.
    """

    name: str
    title: str
    streams: int
    tokens_per_s: float
    step: bool = False
    ramp_per_s: float = 150.0
    window_s: float = 0.0
    memory: bool = False

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
        title: for people.
        stream: streams of `tokens` at `tokens_per_s`; else whole answers.
        rate_per_s: Poisson arrivals a second; 0 = one after the other.
        in_flight_max: most requests under way.
        tokens: asked for in each request.
        tokens_per_s: pace of each stream.
    """

    name: str
    title: str
    stream: bool
    rate_per_s: float
    in_flight_max: int
    tokens: int = 0
    tokens_per_s: float = 500.0

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
    StreamScenario(PACED, "300 streams x 20 tokens/s, staggered", 300, 20),
    StreamScenario("paced-50", "300 streams x 50 tokens/s, staggered", 300, 50),
    StreamScenario("step-20", "300 streams x 20 tokens/s, all in step", 300, 20, step=True),
    RequestScenario(TTFT[0], "time to first token, one stream after the other", True, 0, 1, tokens=4),
    RequestScenario(TTFT[1], "time to first token, 100 streams/s, about 20 open", True, 100, 256, 20, 100.0),
    RequestScenario("nonstream", "whole answers, 1,000 requests/s", False, 1000, 64, 50),
    StreamScenario(IDLE, "2,000 streams x 1 token / 5 s", 2000, 0.2, ramp_per_s=250, window_s=10, memory=True),
    StreamScenario("saturated", "64 streams as fast as they go (no target)", 64, 0, ramp_per_s=100),
)


def files_needed(scenario: Scenario) -> int:
    """Return how many descriptors the busiest process needs: a gateway has two for each stream."""
    return 2 * (scenario.streams if isinstance(scenario, StreamScenario) else scenario.in_flight_max) + 256
