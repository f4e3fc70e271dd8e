"""What lasts of the way to one backend while its route answers come and go, and the source that uses it.

The modules of an engine that speaks gRPC are imported here, at its first use: the chat edge loads no grpc.
"""

from __future__ import annotations

from typing import Protocol

from edge.sources.engine import EngineLimits, EngineSource
from edge.sources.ollama import ollama
from edge.sources.pool import Pool, PoolSettings
from edge.streams.contracts import Source
from streamkit.flow.budget import Account
from streamkit.wire.route import Candidate

__all__ = ["Link", "link_to"]


class Link(Protocol):
    """Connections to one backend."""

    @property
    def idle(self) -> int:
        """Connections waiting for work."""

    @property
    def active(self) -> int:
        """Connections at work or being made."""

    def source(self, candidate: Candidate) -> Source:
        """Return what opens upstreams to the backend as `candidate` describes it."""

    def close(self) -> None:
        """Give up what is idle; what is at work closes at its end."""


class HttpLink(Pool):
    """Connections to an engine behind HTTP."""

    def __init__(self, url: str, settings: PoolSettings, limits: EngineLimits, answers: Account) -> None:
        super().__init__(url, settings)
        self._limits = limits
        self._answers = answers

    def source(self, candidate: Candidate) -> Source:
        """Return what opens upstreams, in the engine's own dialect where it has one and is to use it."""
        if candidate.engine == "ollama" and candidate.api == "native":
            return EngineSource(candidate, self, self._limits, self._answers, ollama(candidate.ollama))
        return EngineSource(candidate, self, self._limits, self._answers)


def link_to(candidate: Candidate, settings: PoolSettings, limits: EngineLimits, answers: Account) -> Link:
    """Return a new link to the backend of `candidate`."""
    if candidate.engine == "tfserving":
        from edge.sources.tfserving.link import GrpcLink  # noqa: PLC0415  loads grpc

        return GrpcLink(candidate.url, settings, limits, answers)
    return HttpLink(candidate.url, settings, limits, answers)
