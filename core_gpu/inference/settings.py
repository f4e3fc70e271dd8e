"""What an operator can set of the inference server: the table `[inference]`."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

__all__ = ["InferenceSettings", "ModelSettings"]

_Port = Annotated[int, msgspec.Meta(ge=0, le=65_535)]
_Ms = Annotated[int, msgspec.Meta(ge=1, le=86_400_000)]
_MsOrNone = Annotated[int, msgspec.Meta(ge=0, le=86_400_000)]
_Mb = Annotated[int, msgspec.Meta(ge=1, le=16_777_216)]
_MbOrNone = Annotated[int, msgspec.Meta(ge=0, le=16_777_216)]
_Count = Annotated[int, msgspec.Meta(ge=1, le=1_000_000)]


class ModelSettings(msgspec.Struct, frozen=True, kw_only=True):
    """One model that requests may name.

    Args:
        model_path: an ONNX file, or `reference:mouth`, `reference:unet`, `reference:ave`.
        preload: load it at the start.
        preferred_gpu: -1 = any.
        pin: never evict it.
        memory_mb: what it is charged with while loaded; 0 = twice its file and 16 MiB.
        channels: how its three channels are meant; JPEG needs to know.
    """

    model_path: Annotated[str, msgspec.Meta(min_length=1, max_length=4_096)]
    preload: bool = False
    preferred_gpu: Annotated[int, msgspec.Meta(ge=-1, le=63)] = -1
    pin: bool = False
    memory_mb: _MbOrNone = 0
    channels: Literal["rgb", "bgr"] = "rgb"


class InferenceSettings(msgspec.Struct, frozen=True, kw_only=True):
    """The inference server's part of `headrace.toml`."""

    #: Address for callers. Anything but loopback needs the three TLS files.
    host: str = "127.0.0.1"
    #: gRPC; alone the port that its clients know by heart.
    port: _Port = 50_052
    #: Address for health, metrics and events, which ask for no key: keep it private.
    ops_host: str = "127.0.0.1"
    #: For health, metrics and events.
    ops_port: _Port = 7427
    #: PEM files of mutual TLS: certificate, key, and the authority whose clients are let in.
    tls_cert_file: str = ""
    tls_key_file: str = ""
    tls_client_ca_file: str = ""

    #: What computes. A CPU stands in for each GPU that is asked for.
    device: Literal["cpu", "cuda"] = "cpu"
    gpus: Annotated[int, msgspec.Meta(ge=1, le=64)] = 1
    #: Memory for models on each.
    memory_mb_per_gpu: _Mb = 4_096
    #: Which GPU a model goes to that prefers none.
    assignment: Literal["round-robin", "least-loaded"] = "round-robin"
    #: Runs at a time on each GPU, and threads of one run on a CPU.
    workers_per_gpu: Annotated[int, msgspec.Meta(ge=1, le=64)] = 1
    threads_per_worker: Annotated[int, msgspec.Meta(ge=1, le=256)] = 1
    #: Requests that may wait for each GPU, and bytes of all that are here; one more is refused.
    queue_size: _Count = 200
    queue_mb: _Mb = 512
    #: Largest message.
    max_message_mb: Annotated[int, msgspec.Meta(ge=1, le=1_024)] = 50
    #: Frames in one run, and how long a run may wait for further requests of its model.
    max_batch: Annotated[int, msgspec.Meta(ge=1, le=256)] = 16
    batch_wait_ms: _MsOrNone = 2

    #: Models loaded at a time, and their memory on all GPUs together.
    max_models: _Count = 1_200
    max_memory_mb: _Mb = 4_096
    #: Who goes when there is no room: the one used longest ago, or least often.
    eviction: Literal["lru", "lfu"] = "lru"
    #: A model that nobody used for so long is unloaded; 0 = never.
    idle_timeout_ms: _MsOrNone = 3_600_000
    #: How long a load may wait for room while every loaded model is in use.
    load_wait_ms: _MsOrNone = 2_000
    #: Where models may lie; a file NAME.onnx there needs no entry. Empty = wherever an entry says, and only those.
    models_root: str = ""

    #: Frames registered by callers; the ones used longest ago go first.
    visuals_mb: _Mb = 512
    #: Requests that one stream may have unanswered, and streams and calls at a time.
    stream_credit: Annotated[int, msgspec.Meta(ge=1, le=1_024)] = 16
    max_calls: _Count = 4_096

    #: CUDA only: who lends the memory, how long to wait for it, at which priority (1 is the highest).
    arbiter: str = "127.0.0.1:50051"
    lease_wait_ms: _MsOrNone = 2_000
    lease_priority: Annotated[int, msgspec.Meta(ge=1, le=9)] = 2
    #: CUDA only: part of each model's lease outside of its arena; record runs and replay them.
    gpu_overhead_mb: _MbOrNone = 128
    cuda_graphs: bool = False

    #: How long it still answers after it stopped being ready, and time for answers under way.
    settle_ms: _MsOrNone = 0
    drain_ms: _Ms = 5_000

    #: By the name that requests use; none = the project's three reference models.
    models: dict[str, ModelSettings] = {}
