"""The schema of `POST /v1/route`: a cacheable set of candidates, or a shed answer.

A request holds only what makes a cacheable key; who is asking, for which prompt, never reaches control (law 1).
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from streamkit.wire.backend import Capabilities, Engine, OllamaOptions

__all__ = ["Candidate", "RouteAnswer", "RouteRequest", "Shed", "Transport"]

Transport = Literal["sse", "json", "websocket", "webrtc"]


class RouteRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """The cache key: equal requests may be given the same answer until its ttl is over.

    What is as usual is left out, so that a control that does not know a newer member answers all who do not use it.
    """

    model: Annotated[str, msgspec.Meta(min_length=1, max_length=256)]
    tenant_class: str = "default"
    #: 1 (highest) to 9.
    priority_class: Annotated[int, msgspec.Meta(ge=1, le=9)] = 5
    transport: Transport = "sse"
    #: A probe's: this backend and no other, however it is; empty = any that takes work.
    backend: Annotated[str, msgspec.Meta(max_length=64)] = ""


class Candidate(msgspec.Struct, frozen=True, kw_only=True):
    """One backend that may serve the model."""

    backend: str
    engine: Engine
    url: str
    #: Ollama's own API is spoken, with these options.
    api: Literal["openai", "native"] = "openai"
    ollama: OllamaOptions = OllamaOptions()
    #: The engine's own name for the model (an alias may have been asked for).
    model: str
    #: Place of that model in an alias's chain; a later one is for when the earlier ones take no work.
    rank: int = 0
    #: Share of new work when others are equally loaded; 0 takes none.
    weight: float = 1.0
    region: str = ""
    max_inflight: int
    #: Edges alive now; each takes at most ceil(max_inflight / live_edges) x 1.5.
    live_edges: int = 1
    capabilities: Capabilities
    #: A text answer that breaks off in the middle may be continued here: the model's policy and the engine allow it.
    continues: bool = False
    #: The engine's bearer token, when it asks for one.
    api_key: str = ""


class Shed(msgspec.Struct, frozen=True, kw_only=True):
    """Why there are no candidates."""

    #: A code of `streamkit.wire.errors` (`model_not_found`, `saturated`, `no_backend`).
    code: str
    message: str
    retry_after_ms: int | None = None


class RouteAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """Candidates with the time for which they hold, or a shed with its own short ttl."""

    decision_id: str
    ttl_ms: int
    #: How the edge chooses among candidates: `p2c` or `affinity`.
    policy: Literal["p2c", "affinity"] = "p2c"
    candidates: tuple[Candidate, ...] = ()
    shed: Shed | None = None
    #: Ask a second candidate when the first has sent no event by then; None = never.
    hedge_after_ms: int | None = None
    #: Sequence of the control snapshot that the answer is a function of.
    snapshot: int = 0
