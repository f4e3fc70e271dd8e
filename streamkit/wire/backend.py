"""A backend as configuration names it, and what its engine can do."""

from __future__ import annotations

from typing import Annotated, Final, Literal

import msgspec

__all__ = ["CAPABILITIES", "Backend", "Cancels", "Capabilities", "Engine", "OllamaOptions"]

Engine = Literal["vllm", "ollama", "openai", "tfserving", "inference"]


class Cancels(msgspec.Struct, frozen=True):
    """Whether the engine stops working when its client's connection closes."""

    stream: bool = True
    nonstream: bool = True


class Capabilities(msgspec.Struct, frozen=True):
    """What the edge must know about an engine before it may rely on it (design §5).

    The defaults are vLLM 0.32's, as captured; `CAPABILITIES` has the other engines'.
    """

    cancels_on_close: Cancels = Cancels()
    #: The engine stops generating when its reader stops reading.
    waits_for_reader: bool = False
    #: `include_usage` adds exactly one last chunk, so the edge may force it and strip it.
    usage_chunk_only: bool = True
    #: `continue_final_message` returns only the continuation.
    prefill: bool = True
    #: The stream ends with `data: [DONE]`; `transformers serve` has none.
    sends_done: bool = True
    #: A simulator: `X-Sim` headers are forwarded, and people are told.
    simulated: bool = False


CAPABILITIES: Final[dict[Engine, Capabilities]] = {
    "vllm": Capabilities(),
    # llama-server and its kin behind the generic flavour: non-streaming work goes on after a close.
    "openai": Capabilities(
        cancels_on_close=Cancels(stream=True, nonstream=False), usage_chunk_only=False, prefill=False
    ),
    "ollama": Capabilities(waits_for_reader=True, usage_chunk_only=False, prefill=False),
    "tfserving": Capabilities(usage_chunk_only=False, prefill=False, sends_done=False),
    "inference": Capabilities(usage_chunk_only=False, prefill=False, sends_done=False),
}


class OllamaOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What only Ollama's own API can be told, for every request of a backend with `api = "native"`."""

    #: Context in tokens; 0 = the model's own. It decides how much memory the model takes.
    num_ctx: Annotated[int, msgspec.Meta(ge=0)] = 0
    #: How long the model stays loaded after a request, as Ollama writes it: `10m`, `-1`; empty = Ollama's own.
    keep_alive: Annotated[str, msgspec.Meta(pattern=r"^$|^-?[0-9]+(ns|us|ms|s|m|h)?$")] = ""


class Backend(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One `[[backends]]` table of `headrace.toml`."""

    name: Annotated[str, msgspec.Meta(pattern=r"^[a-z0-9][a-z0-9._-]{0,63}$")]
    engine: Engine
    #: Base address without `/v1`: `http://host:port`; of TensorFlow Serving its gRPC port: `grpc://host:8500`.
    url: Annotated[str, msgspec.Meta(pattern=r"^(https?|grpcs?)://[^/\s]+(/[^\s]*)?$")]
    #: Which of Ollama's two APIs is used; the others have one.
    api: Literal["openai", "native"] = "openai"
    ollama: OllamaOptions = OllamaOptions()
    #: Models that it serves; discovered from the engine when left out.
    models: tuple[str, ...] = ()
    region: str = ""
    #: Upper bound of requests in the engine at a time, over all edges.
    max_inflight: Annotated[int, msgspec.Meta(ge=1, le=100_000)] = 256
    simulated: bool = False
    #: Sent to the engine as `Authorization: Bearer …`; read from this environment variable, never from the file.
    api_key_env: str = ""
    #: Overrides of what the engine's flavour is known to do.
    capabilities: Capabilities | None = None

    def effective_capabilities(self) -> Capabilities:
        """Return the engine's capabilities with this backend's own overrides and its `simulated` mark."""
        base = self.capabilities or CAPABILITIES[self.engine]
        if self.capabilities is None and self.api == "native":
            # The usage chunk is ours: made from the counts of the last line.
            base = msgspec.structs.replace(base, usage_chunk_only=True)
        return msgspec.structs.replace(base, simulated=self.simulated or base.simulated)
