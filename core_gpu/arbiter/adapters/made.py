"""Which adapter speaks to which engine."""

from __future__ import annotations

from core_gpu.arbiter.adapters.contract import Adapter, Measure
from core_gpu.arbiter.adapters.inference import InferenceAdapter
from core_gpu.arbiter.adapters.ollama import OllamaAdapter
from core_gpu.arbiter.adapters.plain import PlainAdapter
from core_gpu.arbiter.adapters.tfserving import TfServingAdapter
from core_gpu.arbiter.adapters.vllm import VllmAdapter
from streamkit.ops.http_client import HttpClient
from streamkit.wire.backend import Backend

__all__ = ["adapter_of"]


def adapter_of(backend: Backend, http: HttpClient, measure: Measure) -> Adapter:
    """Return the adapter of a backend's engine.

    Args:
        backend: as configured.
        http: makes the calls.
        measure: what its processes hold.
    """
    url = backend.url.rstrip("/")
    match backend.engine:
        case "vllm":
            return VllmAdapter(http, url, backend.models, measure)
        case "ollama":
            return OllamaAdapter(http, url, measure)
        case "tfserving":
            return TfServingAdapter(url, backend.models, measure)
        case "inference":
            return InferenceAdapter(url, measure)
        case _:
            return PlainAdapter(http, url, measure)
