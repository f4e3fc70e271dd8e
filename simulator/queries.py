"""Everything that is answered at once: models, health, metrics, tokenizer, embeddings, sleep, and `/sim/*`."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from typing import Any, Final
from urllib.parse import parse_qs

import msgspec

from simulator import tokens
from simulator.connection import Connection
from simulator.embeddings import as_base64, vector
from simulator.engine import Engine
from simulator.errors import EngineError, draining, invalid, too_long, unknown_model, validation
from simulator.faults import parse_fault
from simulator.message import Request
from simulator.request import body_of, model_of
from simulator.template import chat_prompt
from simulator.vram import VramScript
from streamkit.wire.unreadable import UNREADABLE

__all__ = ["Queries"]

Answer = Callable[[Connection, Request], None]
_METRICS_TYPE: Final = "text/plain; version=1.0.0; charset=utf-8"
_VERSION: Final = b'{"version":"0.32.0"}'


class Queries:
    """Answers what needs no batch.

    Args:
        engine: asked, put to sleep and woken.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._settings = engine.settings

    def own_table(self) -> dict[str, dict[str, Answer]]:
        """Return the simulator's own pages, which every flavour has."""
        return {path: methods for path, methods in self.table().items() if path.startswith("/sim/")}

    def table(self) -> dict[str, dict[str, Answer]]:
        """Return path -> method -> answer; `/sleep` and its kin only in `dev_mode` (g10_is_sleeping)."""
        table: dict[str, dict[str, Answer]] = {
            "/v1/models": {"GET": self.models},
            "/health": {"GET": self.health},
            "/ping": {"GET": self.health, "POST": self.health},
            "/version": {"GET": lambda exchange, _: exchange.answer(200, _VERSION)},
            "/load": {"GET": self.load},
            "/metrics": {"GET": self.metrics},
            "/tokenize": {"POST": self.tokenize},
            "/detokenize": {"POST": self.detokenize},
            "/sim/fault": {"GET": self.fault, "POST": self.set_fault},
            "/sim/stats": {"GET": self.stats},
            "/sim/gpu": {"GET": self.gpu, "POST": self.script_gpu},
        }
        if self._settings.dev_mode:
            table["/sleep"] = {"POST": self.sleep}
            table["/wake_up"] = {"POST": self.wake_up}
            table["/is_sleeping"] = {"GET": self.is_sleeping}
            table["/reset_prefix_cache"] = {"POST": self.reset_prefix_cache}
        return table

    def models(self, exchange: Connection, _: Request) -> None:
        """`GET /v1/models` (g01_models)."""
        created = int(time.time())
        permission: dict[str, Any] = {"object": "model_permission", "created": created, "allow_create_engine": False}
        permission |= {"allow_sampling": True, "allow_logprobs": True, "allow_search_indices": False}
        permission |= {"allow_view": True, "allow_fine_tuning": False, "organization": "*", "group": None}
        data = [
            {
                "id": model, "object": "model", "created": created, "owned_by": "vllm", "root": f"simulated/{model}",
                "parent": None, "max_model_len": self._settings.max_model_len,
                "permission": [{"id": f"modelperm-{secrets.token_hex(8)}", **permission, "is_blocking": False}],
            }
            for model in self._settings.models
        ]  # fmt: skip
        _json(exchange, {"object": "list", "data": data})

    def health(self, exchange: Connection, _: Request) -> None:
        """`GET /health`: 200 asleep, draining or frozen alike (behaviour.txt)."""
        exchange.answer(200, b"", content_type=None)

    def load(self, exchange: Connection, _: Request) -> None:
        """`GET /load`: what is in flight, waiting included (g21_load_busy)."""
        _json(exchange, {"server_load": len(self._engine.open)})

    def metrics(self, exchange: Connection, _: Request) -> None:
        """`GET /metrics` (g20_metrics_busy)."""
        exchange.answer(200, self._engine.exposition(), content_type=_METRICS_TYPE)

    def tokenize(self, exchange: Connection, request: Request) -> None:
        """`POST /tokenize`, of a text or a chat (g14, g15)."""
        body = _body(request)
        model = model_of(body, self._settings)
        if "messages" in body:
            ids = list(chat_prompt(body["messages"], body.get("tools") or [], model=model, continues=False).ids)
        else:
            ids = tokens.encode(str(body.get("prompt", "")))
        strings = tokens.strings(ids) if body.get("return_token_strs") else None
        limit = self._settings.max_model_len
        _json(exchange, {"count": len(ids), "max_model_len": limit, "tokens": ids, "token_strs": strings})

    def detokenize(self, exchange: Connection, request: Request) -> None:
        """`POST /detokenize` (g16)."""
        body = _body(request)
        model_of(body, self._settings)
        ids = body.get("tokens")
        if not isinstance(ids, list) or not all(isinstance(number, int) for number in ids):
            fault = {"type": "list_type", "loc": "body.tokens", "msg": "Input should be a valid list"}
            raise validation([{**fault, "input": str(ids)}])
        _json(exchange, {"prompt": tokens.decode(ids)})

    def embeddings(self, exchange: Connection, request: Request) -> None:
        """`POST /v1/embeddings`, as floats or base64 (i01-i06, i10)."""
        if self._engine.draining:
            raise draining()
        body = _body(request)
        model = body.get("model") or self._settings.models[0]
        if model not in self._settings.models:
            raise unknown_model(str(model), None)
        texts = _inputs(body.get("input"))
        if body.get("dimensions") is not None:
            raise EngineError(
                f"Model '{model}' does not support Matryoshka embeddings; dimensions must be unset "
                f"(received dimensions={body['dimensions']})."
            )
        counts = [tokens.count(text) for text in texts]
        if max(counts) > self._settings.max_model_len:
            raise too_long(self._settings.max_model_len)
        encoding = body.get("encoding_format") or "float"
        if encoding not in ("float", "base64"):
            raise invalid("Input should be 'float' or 'base64'", "encoding_format", encoding)
        data = []
        for index, text in enumerate(texts):
            values = vector(text, self._settings.embedding_dim)
            embedding = as_base64(values) if encoding == "base64" else values
            data.append({"index": index, "object": "embedding", "embedding": embedding})
        used = sum(counts)
        usage = {"prompt_tokens": used, "total_tokens": used, "completion_tokens": 0}
        _json(exchange, {
            "id": f"embd-{request.headers.get('x-request-id') or secrets.token_hex(8)}", "object": "list",
            "created": int(time.time()), "model": model, "data": data,
            "usage": {**usage, "prompt_tokens_details": None, "completion_tokens_details": None},
        })  # fmt: skip

    def sleep(self, exchange: Connection, request: Request) -> None:
        """`POST /sleep?level=0|1|2&mode=abort|wait|keep` (j03, j11, j14, j20)."""
        query = parse_qs(request.query)
        given = query.get("level", ["1"])[0]
        if not given.isdecimal():
            message = "Input should be a valid integer, unable to parse string as an integer"
            raise validation([{"type": "int_parsing", "loc": "query.level", "msg": message, "input": given}])
        level = int(given)
        if level > 2:
            fault = {
                "type": "less_than_equal",
                "loc": "query.level",
                "msg": "Input should be less than or equal to 2",
            }
            raise validation([{**fault, "input": given, "ctx": {"le": 2}}])
        self._engine.sleep(level, abort=query.get("mode", ["abort"])[0] == "abort")
        _json(exchange, {"status": "sleeping", "level": level})

    def wake_up(self, exchange: Connection, request: Request) -> None:
        """`POST /wake_up?tags=…` (j07, j13)."""
        self._engine.wake()
        _json(exchange, {"status": "awake", "tags": parse_qs(request.query).get("tags")})

    def is_sleeping(self, exchange: Connection, _: Request) -> None:
        """`GET /is_sleeping` (j01, j04)."""
        _json(exchange, {"is_sleeping": self._engine.sleep_level is not None})

    def reset_prefix_cache(self, exchange: Connection, _: Request) -> None:
        """`POST /reset_prefix_cache` (j19)."""
        self._engine.batch.prefixes.clear()
        _json(exchange, {"success": True})

    def fault(self, exchange: Connection, _: Request) -> None:
        """`GET /sim/fault`."""
        _json(exchange, {"fault": self._engine.fault.name})

    def set_fault(self, exchange: Connection, request: Request) -> None:
        """`POST /sim/fault {"fault": name | clauses | null}`: what new requests meet from now on."""
        body = body_of(request.body, "application/json")
        wanted = body.get("fault")
        if not isinstance(wanted, str | None):
            raise EngineError(f"a fault is a string or null, not {wanted!r}", param="fault")
        try:
            self._engine.fault = parse_fault(wanted, name=self._settings.name)
        except ValueError as error:
            raise EngineError(str(error), param="fault") from None
        _json(exchange, {"fault": self._engine.fault.name})

    def stats(self, exchange: Connection, _: Request) -> None:
        """`GET /sim/stats`: see `Stats`."""
        exchange.answer(200, msgspec.json.encode(self._engine.snapshot()))

    def gpu(self, exchange: Connection, _: Request) -> None:
        """`GET /sim/gpu`: see `Vram`."""
        _json(exchange, self._engine.vram.page())

    def script_gpu(self, exchange: Connection, request: Request) -> None:
        """`POST /sim/gpu`: see `VramScript`."""
        try:
            self._engine.vram.script(msgspec.json.decode(request.body, type=VramScript))
        except UNREADABLE as error:
            raise EngineError(str(error)) from None
        self.gpu(exchange, request)


def _json(exchange: Connection, value: Any) -> None:
    exchange.answer(200, msgspec.json.encode(value))


def _body(request: Request) -> dict[str, Any]:
    return body_of(request.body, request.headers.get("content-type", ""))


def _inputs(given: object) -> list[str]:
    """Return the texts of an embeddings `input`: a text, texts, ids, or lists of ids (i01-i04)."""
    if isinstance(given, str):
        return [given]
    if not isinstance(given, list):
        raise validation([{"type": "missing", "loc": "body.input", "msg": "Field required", "input": str(given)}])
    if not given:
        raise EngineError("You must pass at least one prompt")
    if all(isinstance(one, int) for one in given):
        return [tokens.decode(given)]
    return [tokens.decode(one) if isinstance(one, list) else str(one) for one in given]
