"""Which engine a simulator stands in for."""

from __future__ import annotations

from typing import Final

from simulator.engine import Engine
from simulator.llama.routes import LlamaRoutes
from simulator.ollama.routes import OllamaRoutes
from simulator.routes import Routes
from simulator.tf.routes import TfRoutes

__all__ = ["flavour"]

_FLAVOURS: Final[dict[str, type[Routes]]] = {
    "vllm": Routes,
    "ollama": OllamaRoutes,
    "llama-server": LlamaRoutes,
    "tfserving": TfRoutes,
}


def flavour(engine: Engine) -> Routes:
    """Return the routes of the engine that the settings name."""
    return _FLAVOURS[engine.settings.engine](engine)
