"""What a simulated engine is like: its sizes, its speed, its limits."""

from __future__ import annotations

from typing import Annotated, Final, Literal

import msgspec

from simulator.faults import parse_fault

__all__ = ["SimulatorSettings"]

_NotNegative = Annotated[float, msgspec.Meta(ge=0)]
_Count = Annotated[int, msgspec.Meta(ge=0)]
_Positive = Annotated[int, msgspec.Meta(ge=1)]
GIB: Final = 1024**3


class SimulatorSettings(msgspec.Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """Settings of one simulator process.

    Durations are milliseconds (`_ms`), sizes bytes (`_bytes`). The defaults feel like a pleasant small model.

    Raises:
        ValueError: a fault that is unknown, or a KV cache that cannot hold one longest request.
    """

    host: str = "127.0.0.1"
    #: 0 takes a free port.
    port: Annotated[int, msgspec.Meta(ge=0, le=65535)] = 0
    #: What `@selector` in `X-Sim` is matched against, and the name in the ready file.
    name: str = "simulator-vllm"
    #: What it stands in for.
    engine: Literal["vllm", "ollama", "llama-server", "tfserving"] = "vllm"
    #: Names that a request may ask for; the first answers a request without `model`.
    models: Annotated[tuple[str, ...], msgspec.Meta(min_length=1)] = ("sim-chat",)
    #: Which API the process offers. A real vLLM serves `generate` or `embed`, never both.
    serves: Literal["all", "generate", "embed"] = "all"
    seed: int = 0

    # The batch.
    max_num_seqs: _Positive = 256
    max_model_len: _Positive = 32_768
    kv_blocks: _Positive = 65_536
    #: Tokens in one KV block.
    block_tokens: _Positive = 16
    #: vLLM's `--max-num-queued-reqs`: bound of running + waiting sequences, `n` counting n; 0 = none.
    max_num_queued_reqs: _Count = 0
    #: vLLM's `--max-num-queued-tokens`: bound of prompt tokens that wait; 0 = none.
    max_num_queued_tokens: _Count = 0

    # Its GPU memory, as `/sim/gpu` shows it.
    weights_bytes: _Count = 4 * GIB
    kv_bytes: _Count = 2 * GIB
    #: Stays while vLLM sleeps.
    residue_bytes: _Count = GIB
    #: Memory goes back so long after the engine said so.
    release_ms: _NotNegative = 0.0

    # Loading models: Ollama, llama-server, TensorFlow Serving.
    load_ms: _NotNegative = 0.0
    #: Ollama's `OLLAMA_KEEP_ALIVE`.
    keep_loaded_ms: _NotNegative = 300_000.0
    #: Ollama's `OLLAMA_MAX_LOADED_MODELS`.
    max_loaded_models: _Positive = 3
    #: Ollama's `OLLAMA_MAX_QUEUE`: requests that wait for a model to be loaded; further ones are 503.
    max_pending_loads: _Count = 512
    #: TensorFlow Serving's gRPC; 0 takes a free port. `port` is its REST port.
    grpc_port: Annotated[int, msgspec.Meta(ge=0, le=65535)] = 0

    # Its speed.
    ttft_ms: _NotNegative = 80.0
    #: Added to `ttft_ms` for each prompt token that the prefix cache does not hold.
    prefill_ms_per_token: _NotNegative = 0.0
    itl_ms: _NotNegative = 25.0
    #: ITL = itl_ms x (1 + itl_growth x (running - 1)).
    itl_growth: _NotNegative = 0.002
    #: `staggered`: each stream has its own clock, phases spread evenly. `step`: one engine step emits a token
    #: for every running stream at the same moment.
    pace: Literal["staggered", "step"] = "staggered"

    # The server.
    #: vLLM's `--sse-keep-alive-interval`: `: keep-alive` while a stream is silent; 0 = off.
    sse_keep_alive_ms: _NotNegative = 0.0
    #: An idle keep-alive connection is closed after this long (behaviour.txt: 5.00 s).
    keep_alive_idle_ms: _NotNegative = 5_000.0
    #: The engine never waits for a slow reader; a connection with more than this unsent is reset.
    output_buffer_bytes: _Positive = 16 * 1024 * 1024
    body_bytes: _Positive = 32 * 1024 * 1024
    header_bytes: _Positive = 64 * 1024
    #: Demanded as `Authorization: Bearer …` on `/v1/*` when set.
    api_key: str | None = None
    #: `--enable-request-id-headers`: answers carry `x-request-id`.
    request_id_headers: bool = False
    #: `--enable-force-include-usage`: every stream carries usage, whatever it asked for.
    force_usage: bool = False
    #: `--enable-per-request-metrics`: answers carry a `metrics` object.
    per_request_metrics: bool = False
    #: `VLLM_SERVER_DEV_MODE` with `--enable-sleep-mode`: `/sleep`, `/wake_up`, `/is_sleeping`.
    dev_mode: bool = True
    embedding_dim: _Positive = 128
    #: What SIGTERM does to running work (behaviour.txt `[term_api]`, `[drain]`).
    on_sigterm: Literal["cut", "drain"] = "cut"
    shutdown_timeout_ms: _NotNegative = 20_000.0
    #: A named fault, or clauses in the `X-Sim` grammar, from the start; `POST /sim/fault` changes it.
    fault: str | None = None

    def __post_init__(self) -> None:
        """Refuse settings that no engine would start with."""
        parse_fault(self.fault)
        if self.kv_blocks * self.block_tokens < self.max_model_len:
            raise ValueError(
                f"kv_blocks x block_tokens = {self.kv_blocks * self.block_tokens} tokens of KV cache cannot hold one "
                f"request of max_model_len = {self.max_model_len}; raise kv_blocks or lower max_model_len"
            )
