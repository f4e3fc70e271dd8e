"""llama-server's pages: 503 while it loads, any model name taken, non-streaming work that goes on after a close."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from simulator import request as requests
from simulator.connection import Connection
from simulator.engine import Engine
from simulator.errors import EngineError
from simulator.llama.voice import LLAMA, refusal
from simulator.message import Request
from simulator.request import Body, Generate
from simulator.routes import Routes, Speech, Table
from simulator.settings import SimulatorSettings

__all__ = ["LlamaRoutes"]

_OK: Final = b'{"status":"ok"}'
_JSON: Final = "application/json; charset=utf-8"


class LlamaRoutes(Routes):
    """Everything that llama-server answers.

    Args:
        engine: what it all runs in.
    """

    def __init__(self, engine: Engine) -> None:
        self._ready_at = engine.loop.time() + engine.settings.load_ms / 1000
        self._chat = Speech(_chat, LLAMA, "chatcmpl-", any_type=True)
        self._text = Speech(_text, LLAMA, "chatcmpl-", any_type=True)
        super().__init__(engine)

    def table(self) -> Table:
        """Return path -> method -> answer."""
        health = {method: lambda one, _: one.answer(200, _OK, content_type=_JSON) for method in ("GET", "HEAD")}
        embeddings = self.queries.embeddings if self.engine.settings.serves != "generate" else _no_embeddings
        return {
            **self.queries.own_table(),
            "/health": health,
            "/v1/health": health,
            "/v1/models": {"GET": self._models},
            "/metrics": {"GET": self.queries.metrics},
            "/slots": {"GET": self._slots},
            "/v1/chat/completions": {"POST": lambda one, request: self.generate(one, request, self._chat)},
            "/v1/completions": {"POST": lambda one, request: self.generate(one, request, self._text)},
            "/v1/embeddings": {"POST": embeddings},
        }

    async def start(self) -> None:
        """Its memory is taken for as long as it runs."""
        settings = self.engine.settings
        self.engine.vram.take("model", settings.weights_bytes + settings.kv_bytes)

    def handle(self, exchange: Connection, request: Request) -> None:
        """Answer 503 to everything while the model loads (startup.txt), but for the list of models."""
        loading = self.engine.loop.time() < self._ready_at
        if loading and request.path != "/v1/models" and not request.path.startswith("/sim/"):
            self.refuse(exchange, EngineError("Loading model", status=503))
            return
        super().handle(exchange, request)

    def refuse(self, exchange: Connection, error: EngineError) -> None:
        """Answer with an error in llama-server's shape."""
        exchange.answer(error.status, refusal(error), content_type=_JSON)

    def lost(self, exchange: Connection, allowed: list[str] | None) -> None:
        """A path with another method is not there either (g13_get_chat)."""
        self.refuse(exchange, EngineError("File Not Found", status=404))

    def _models(self, exchange: Connection, _: Request) -> None:
        """`GET /v1/models` (g01_models), while loading too."""
        names = self.engine.settings.models
        data = [
            {
                "id": name, "aliases": [name], "tags": [], "object": "model", "created": 0, "owned_by": "llamacpp",
                "meta": {"n_ctx": self.engine.settings.max_model_len, "size": self.engine.settings.weights_bytes},
            }
            for name in names
        ]  # fmt: skip
        listed: list[dict[str, Any]] = [{"name": name, "model": name, "type": "model"} for name in names]
        page = {"models": listed, "object": "list", "data": data}
        exchange.answer(200, msgspec.json.encode(page), content_type=_JSON)

    def _slots(self, exchange: Connection, _: Request) -> None:
        """`GET /slots` (g07_slots)."""
        settings, busy = self.engine.settings, len(self.engine.batch.running)
        slots = [
            {"id": number, "n_ctx": settings.max_model_len, "speculative": False, "is_processing": number < busy}
            for number in range(min(settings.max_num_seqs, 64))
        ]
        exchange.answer(200, msgspec.json.encode(slots), content_type=_JSON)


def _chat(body: Body, settings: SimulatorSettings) -> Generate:
    """Read a chat: any model name is taken and our own is said (c01); a last assistant message is a prefill (a12)."""
    messages = body.get("messages")
    if "messages" not in body:
        raise EngineError("'messages' is required")
    if not isinstance(messages, list):
        raise EngineError("Expected 'messages' to be an array")
    given = {**body, "model": settings.models[0], "messages": messages or [{"role": "user", "content": ""}]}
    last = messages[-1] if messages else None
    if isinstance(last, dict) and last.get("role") == "assistant":
        given |= {"continue_final_message": True, "add_generation_prompt": False}
    return requests.chat(_limits(given), settings)


def _text(body: Body, settings: SimulatorSettings) -> Generate:
    return requests.completions(_limits({**body, "model": settings.models[0]}), settings)


def _limits(body: Body) -> Body:
    """Read `max_tokens` as it does: 0 is one token (c04b), less than -1 is refused (c04)."""
    asked = body.get("max_tokens")
    if isinstance(asked, str):
        text = "Field 'max_tokens': [json.exception.type_error.302] type must be number, but is string"
        raise EngineError(text)
    if isinstance(asked, int) and asked < -1:
        text = f"Field 'max_tokens': Value must be between -1 <= value <= 2147483647, but got {asked}"
        raise EngineError(text)
    if asked == 0:
        return {**body, "max_tokens": 1}
    if asked == -1:
        return {**body, "max_tokens": None}
    return body


def _no_embeddings(_exchange: Connection, _request: Request) -> None:
    """i01_embeddings."""
    raise EngineError("This server does not support embeddings. Start it with `--embeddings`", status=501)
