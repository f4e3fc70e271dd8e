"""Ollama's pages: tokens through the scheduler of models, and what shows and steers which of them are loaded."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import msgspec

from simulator import request as requests
from simulator.connection import Connection
from simulator.engine import Engine
from simulator.errors import EngineError
from simulator.message import Request
from simulator.ollama.asked import keep_seconds, model_name, read_chat, read_generate
from simulator.ollama.loaded import Loaded, now_text
from simulator.ollama.voice import NATIVE, OPENAI, Native, refusal
from simulator.request import Body, Generate
from simulator.routes import Routes, Speech, Table
from simulator.settings import SimulatorSettings

__all__ = ["OllamaRoutes"]

_VERSION: Final = "0.33.0-simulated"
_DETAILS: Final = {
    "parent_model": "", "format": "gguf", "family": "simulated", "families": ["simulated"],
    "parameter_size": "8.0B", "quantization_level": "Q4_K_M",
}  # fmt: skip
_CONTEXT: Final = 4096


class OllamaRoutes(Routes):
    """Everything that Ollama answers.

    Args:
        engine: what it all runs in.
    """

    def __init__(self, engine: Engine) -> None:
        self._loaded = Loaded(engine.settings, engine.vram, engine.loop)
        self._chat = Speech(read_chat, NATIVE, "", any_type=True, before=self._before)
        self._text = Speech(read_generate, NATIVE, "", any_type=True, before=self._before)
        openai: list[tuple[Callable[[Body, SimulatorSettings], Generate], str]] = [
            (requests.chat, "chatcmpl-"), (requests.completions, "cmpl-")
        ]  # fmt: skip
        self._openai = [Speech(_named(read), OPENAI, prefix, before=self._before) for read, prefix in openai]
        super().__init__(engine)

    def table(self) -> Table:
        """Return path -> method -> answer."""
        chat, text = self._openai
        running: Callable[[Connection, Request], None] = lambda one, _: one.answer(  # noqa: E731
            200, b"Ollama is running", content_type="text/plain; charset=utf-8"
        )
        return {
            **self.queries.own_table(),
            "/": {"GET": running, "HEAD": running},
            "/api/version": {"GET": lambda one, _: _json(one, {"version": _VERSION})},
            "/api/tags": {"GET": self._tags},
            "/api/ps": {"GET": self._ps},
            "/api/chat": {"POST": lambda one, request: self._own(one, request, self._chat)},
            "/api/generate": {"POST": lambda one, request: self._own(one, request, self._text)},
            "/v1/models": {"GET": self._models},
            "/v1/chat/completions": {"POST": lambda one, request: self.generate(one, request, chat)},
            "/v1/completions": {"POST": lambda one, request: self.generate(one, request, text)},
            "/v1/embeddings": {"POST": self.queries.embeddings},
        }

    async def start(self) -> None:
        """Nothing is loaded before somebody asks."""

    async def close(self) -> None:
        """The server is gone."""
        self._loaded.close()
        await super().close()

    def refuse(self, exchange: Connection, error: EngineError) -> None:
        """Answer with an error in Ollama's shape."""
        exchange.answer(error.status, refusal(error))

    def lost(self, exchange: Connection, allowed: list[str] | None) -> None:
        """Answer as gin does."""
        text = b"404 page not found" if allowed is None else b"405 method not allowed"
        exchange.answer(404 if allowed is None else 405, text, content_type="text/plain")

    def _own(self, exchange: Connection, request: Request, speech: Speech) -> None:
        """Tell an order to load or unload a model from a question."""
        body = requests.body_of(request.body, "application/json")
        empty = not body.get("messages") if speech is self._chat else not body.get("prompt")
        if not empty:
            self.generate(exchange, request, speech)
            return
        model = model_name(body, self.engine.settings)
        keep_s = keep_seconds(body.get("keep_alive"))
        said: dict[str, Any] = {"response": ""}
        if speech is self._chat:
            said = {"message": {"role": "assistant", "content": ""}}

        def answer(reason: str) -> None:
            done = {"model": model, "created_at": now_text(), **said, "done": True, "done_reason": reason}
            exchange.delayed = None
            exchange.answer(200, msgspec.json.encode(done))

        if keep_s == 0:
            # The answer comes at once, whatever the model still does and holds.
            self._loaded.unload(model)
            answer("unload")
            return

        def loaded() -> None:
            answer("load")
            self._loaded.done(model)

        context = int((body.get("options") or {}).get("num_ctx") or _CONTEXT)
        exchange.delayed = self._loaded.want(model, context=context, keep_s=keep_s, then=loaded)

    def _before(self, exchange: Connection, asked: Generate, begin: Callable[[Callable[[], None]], None]) -> None:
        context, keep_s = (asked.context, asked.keep_s) if isinstance(asked, Native) else (_CONTEXT, None)
        exchange.delayed = self._loaded.want(
            asked.model,
            context=context,
            keep_s=keep_s,
            then=lambda: begin(lambda: self._loaded.done(asked.model)),
        )

    def _tags(self, exchange: Connection, _: Request) -> None:
        settings = self.engine.settings
        _json(exchange, {"models": [
            {"name": name, "model": name, "modified_at": now_text(), "size": settings.weights_bytes,
             "digest": "0" * 64, "details": _DETAILS}
            for name in settings.models
        ]})  # fmt: skip

    def _ps(self, exchange: Connection, _: Request) -> None:
        size = self.engine.settings.weights_bytes + self.engine.settings.kv_bytes
        _json(exchange, {"models": [
            {"name": name, "model": name, "size": size, "digest": "0" * 64, "details": _DETAILS,
             "expires_at": runner.expires_at, "size_vram": size, "context_length": runner.context}
            for name, runner in self._loaded.runners.items()
        ]})  # fmt: skip

    def _models(self, exchange: Connection, _: Request) -> None:
        data = [
            {"id": name, "object": "model", "created": 0, "owned_by": "library"}
            for name in self.engine.settings.models
        ]
        _json(exchange, {"object": "list", "data": data})


def _named(read: Callable[[Body, SimulatorSettings], Generate]) -> Callable[[Body, SimulatorSettings], Generate]:
    """Return `read` for requests that may leave out the tag."""

    def named(body: Body, settings: SimulatorSettings) -> Generate:
        return read({**body, "model": model_name(body, settings)}, settings)

    return named


def _json(exchange: Connection, value: object) -> None:
    exchange.answer(200, msgspec.json.encode(value), content_type="application/json; charset=utf-8")
