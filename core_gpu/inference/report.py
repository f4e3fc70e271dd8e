"""What the server says on a terminal when it starts: the users' own report, line for line."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from core_gpu.inference.registry import Registry
from core_gpu.inference.settings import InferenceSettings

__all__ = ["beginning", "ending"]

_RULE: Final = "=" * 80
#: As the users' report writes it.
_TIMES: Final = "\N{MULTIPLICATION SIGN}"


def beginning(settings: InferenceSettings, source: str, warnings: Sequence[str]) -> list[str]:
    """Return what is known before anything is loaded.

    Args:
        settings: in force.
        source: the file's name.
        warnings: of reading it.
    """
    workers = settings.gpus * settings.workers_per_gpu
    return [
        _RULE,
        "Multi-GPU Inference Server (Inference ONLY)",
        _RULE,
        f"✅ Configuration loaded from {source}",
        f"   GPUs: {settings.gpus} {_TIMES} {_gb(settings.memory_mb_per_gpu)}GB{_standing_in(settings)}",
        f"   Workers per GPU: {settings.workers_per_gpu} (total: {workers} workers)",
        f"   Max models: {settings.max_models}",
        f"   Max memory: {_gb(settings.max_memory_mb)} GB",
        f"   Eviction policy: {settings.eviction}",
        f"   Configured models: {len(settings.models)}",
        *(f"⚠️  {warning}" for warning in warnings),
        "",
        "Initializing model registry...",
    ]


def ending(settings: InferenceSettings, registry: Registry, problems: Sequence[str], url: str) -> list[str]:
    """Return what is known once the server listens.

    Args:
        settings: in force.
        registry: after the preloads.
        problems: a line for each preload that failed.
        url: where it listens.
    """
    policy = {"round-robin": "Round-robin", "least-loaded": "Least-loaded"}[settings.assignment]
    return [
        *(f"⚠️  {problem}" for problem in problems),
        f"✅ Model registry initialized ({len(registry.loaded)} models preloaded)",
        "",
        "GPU Status:",
        *(
            f"   GPU {device.index}: {device.models} models, {device.used_mb} MB used / {device.total_mb} MB total"
            for device in registry.devices
        ),
        "",
        f"Inference server listening on port :{url.rsplit(':', 1)[-1]}",
        "   Protocol: gRPC with Protobuf",
        "   Features:",
        f"      • Multi-GPU inference ({settings.gpus}{_TIMES} GPUs){_standing_in(settings)}",
        f"      • Multi-model support ({settings.max_models}+ models)",
        "      • Dynamic model loading",
        "      • Automatic eviction (LRU/LFU)",
        f"      • {policy} GPU assignment",
        "      • Raw float32 output (no compositing)",
        "",
        "✅ Ready to accept connections!",
        _RULE,
    ]


def _standing_in(settings: InferenceSettings) -> str:
    return " (CPU in their place)" if settings.device == "cpu" else ""


def _gb(mb: int) -> str:
    return f"{mb / 1024:g}"
