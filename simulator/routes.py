"""Which path is answered by what, and the two ways a request for tokens is let in."""

from __future__ import annotations

import asyncio
import hmac
import secrets
from collections.abc import Callable
from typing import Final

from simulator import request as requests
from simulator.connection import Connection
from simulator.directives import Directives, DirectivesError, parse
from simulator.engine import Engine
from simulator.errors import EngineError, refusal, unauthorized
from simulator.generation import Generation
from simulator.message import Request
from simulator.queries import Queries

__all__ = ["Routes"]

Answer = Callable[[Connection, Request], None]
_HEALING: Final = "/sim/"


class Routes:
    """Hands each request to what answers it.

    Args:
        engine: what it all runs in.
    """

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.connections: set[Connection] = set()
        #: Set whenever no connection is open.
        self.quiet = asyncio.Event()
        self.quiet.set()
        queries = Queries(engine)
        serves = engine.settings.serves
        self._table: dict[str, dict[str, Answer]] = queries.table()
        if serves in ("all", "generate"):
            self._table["/v1/chat/completions"] = {"POST": self._generate}
            self._table["/v1/completions"] = {"POST": self._generate}
        if serves in ("all", "embed"):
            self._table["/v1/embeddings"] = {"POST": queries.embeddings}

    def opened(self, connection: Connection) -> None:
        """Count a connection."""
        self.connections.add(connection)
        self.quiet.clear()
        self.engine.stats.connections += 1

    def closed(self, connection: Connection) -> None:
        """Count it off."""
        self.connections.discard(connection)
        self.engine.stats.connections -= 1
        if not self.connections:
            self.quiet.set()

    def handle(self, exchange: Connection, request: Request) -> None:
        """Answer one request, in the server's own order: key, path, method, body."""
        fault = self.engine.fault
        if not request.path.startswith(_HEALING):
            if fault.refuse:
                exchange.reset()
                return
            if fault.unhealthy and request.path in ("/health", "/ping"):
                exchange.answer(503, b"", content_type=None)
                return
        if self.engine.settings.request_id_headers and not request.request_id:
            request.request_id = secrets.token_hex(16)
        try:
            self._authorize(request)
            methods = self._table.get(request.path)
            if methods is None:
                exchange.answer(404, b'{"detail":"Not Found"}')
            elif request.method not in methods:
                # HEAD too (g11_head_health).
                allow = ", ".join(sorted(methods))
                exchange.answer(405, b'{"detail":"Method Not Allowed"}', allow=allow)
            else:
                methods[request.method](exchange, request)
        except EngineError as error:
            exchange.answer(error.status, error.body(), bare=error.bare)

    def _authorize(self, request: Request) -> None:
        """Demand the key on `/v1/*` only (k01-k04)."""
        key = self.engine.settings.api_key
        if key is None or not request.path.startswith("/v1"):
            return
        given = request.headers.get("authorization", "")
        if not hmac.compare_digest(given.encode("utf-8", "replace"), f"Bearer {key}".encode()):
            raise unauthorized()

    def _generate(self, exchange: Connection, request: Request) -> None:
        directives = self._directives(request)
        if directives.latency_ms:
            delay = directives.latency_ms * 0.001
            exchange.delayed = exchange.loop.call_later(delay, self._late, exchange, request, directives)
        else:
            self._begin(exchange, request, directives)

    def _late(self, exchange: Connection, request: Request, directives: Directives) -> None:
        exchange.delayed = None
        try:
            self._begin(exchange, request, directives)
        except EngineError as error:
            exchange.answer(error.status, error.body(), bare=error.bare)

    def _begin(self, exchange: Connection, request: Request, directives: Directives) -> None:
        if directives.status is not None:
            raise refusal(directives.status)
        body = requests.body_of(request.body, request.headers.get("content-type", ""))
        chat = request.path == "/v1/chat/completions"
        asked = (requests.chat if chat else requests.completions)(body, self.engine.settings)
        self.engine.admit(asked)
        # The id echoes the client's own (a14_stream_xrequestid, c12_bad_request_id_header).
        id_ = request.headers.get("x-request-id") or secrets.token_hex(8)
        id_ = f"{'chatcmpl' if chat else 'cmpl'}-{id_}"
        generation = Generation(self.engine, exchange, asked, directives, id_)
        exchange.generation = generation
        generation.start()

    def _directives(self, request: Request) -> Directives:
        base = self.engine.fault.directives
        header = request.headers.get("x-sim")
        if header is None:
            return base
        attempt = request.headers.get("x-sim-attempt", "1")
        if not attempt.isdecimal() or int(attempt) < 1:
            raise EngineError(f"X-Sim-Attempt is a number from 1, not {attempt!r}", param="x-sim-attempt")
        try:
            return parse(header, name=self.engine.settings.name, attempt=int(attempt), base=base)
        except DirectivesError as error:
            raise EngineError(str(error), param="x-sim") from None
