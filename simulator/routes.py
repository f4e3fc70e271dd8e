"""Which path is answered by what, and the two ways a request for tokens is let in: vLLM's, and the base of others."""

from __future__ import annotations

import asyncio
import hmac
import secrets
from collections.abc import Callable
from typing import Final

import msgspec

from simulator import request as requests
from simulator.connection import Connection
from simulator.directives import Directives, DirectivesError, parse
from simulator.engine import Engine
from simulator.errors import EngineError, refusal, unauthorized
from simulator.generation import Generation
from simulator.message import Request
from simulator.queries import Queries
from simulator.recital import Recital
from simulator.recital import read as spoken_text
from simulator.request import Body, Generate
from simulator.settings import SimulatorSettings
from simulator.voice import VLLM, Voice

__all__ = ["Routes", "Speech", "Table"]

Answer = Callable[[Connection, Request], None]
Table = dict[str, dict[str, Answer]]
_HEALING: Final = "/sim/"


class Speech(msgspec.Struct, frozen=True):
    """How one path for tokens is read and answered."""

    read: Callable[[Body, SimulatorSettings], Generate]
    voice: Voice
    #: Of the answer's id.
    prefix: str
    #: Any content type will do (llama-server, Ollama).
    any_type: bool = False
    #: Called with the request before it may begin: `begin` is to be called then, now or later; what it returns is
    #: called once nothing of the request runs any more.
    before: Callable[[Connection, Generate, Callable[[Callable[[], None]], None]], None] | None = None


_CHAT: Final = Speech(requests.chat, VLLM, "chatcmpl-")
_TEXT: Final = Speech(requests.completions, VLLM, "cmpl-")


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
        self.queries = Queries(engine)
        self._table: Table = self.table()

    def table(self) -> Table:
        """Return path -> method -> answer."""
        table: Table = self.queries.table()
        serves = self.engine.settings.serves
        if serves in ("all", "generate"):
            table["/v1/chat/completions"] = {"POST": lambda one, request: self.generate(one, request, _CHAT)}
            table["/v1/completions"] = {"POST": lambda one, request: self.generate(one, request, _TEXT)}
            table["/v1/audio/speech"] = {"POST": self.recite}
        if serves in ("all", "embed"):
            table["/v1/embeddings"] = {"POST": self.queries.embeddings}
        return table

    async def start(self) -> None:
        """The server listens: a vLLM has its memory by then."""
        self.engine.load()

    async def close(self) -> None:
        """The server is gone."""
        self.engine.vram.close()

    @property
    def backend_url(self) -> str | None:
        """Where the engine is used, if not at the HTTP port."""
        return None

    def refuse(self, exchange: Connection, error: EngineError) -> None:
        """Answer with an error."""
        exchange.answer(error.status, error.body(), bare=error.bare)

    def lost(self, exchange: Connection, allowed: list[str] | None) -> None:
        """Answer for a path that is not there, or that takes other methods (g11_head_health)."""
        if allowed is None:
            exchange.answer(404, b'{"detail":"Not Found"}')
        else:
            exchange.answer(405, b'{"detail":"Method Not Allowed"}', allow=", ".join(allowed))

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
                self.lost(exchange, None)
            elif request.method not in methods:
                self.lost(exchange, sorted(methods))
            else:
                methods[request.method](exchange, request)
        except EngineError as error:
            self.refuse(exchange, error)

    def _authorize(self, request: Request) -> None:
        """Demand the key on `/v1/*` only (k01-k04)."""
        key = self.engine.settings.api_key
        if key is None or not request.path.startswith("/v1"):
            return
        given = request.headers.get("authorization", "")
        if not hmac.compare_digest(given.encode("utf-8", "replace"), f"Bearer {key}".encode()):
            raise unauthorized()

    def generate(self, exchange: Connection, request: Request, speech: Speech) -> None:
        """Let a request for tokens in, now or after the latency that it asks for.

        Raises:
            EngineError: refused at once.
        """
        directives = self._directives(request)
        if directives.latency_ms:
            delay = directives.latency_ms * 0.001
            exchange.delayed = exchange.loop.call_later(delay, self._late, exchange, request, directives, speech)
        else:
            self._begin(exchange, request, directives, speech)

    def recite(self, exchange: Connection, request: Request) -> None:
        """`POST /v1/audio/speech`: let a text in that is to be spoken.

        Raises:
            EngineError: refused at once.
        """
        directives = self._directives(request)
        if directives.status is not None:
            raise refusal(directives.status)
        kind = request.headers.get("content-type", "")
        recital = Recital(self.engine, exchange, spoken_text(requests.body_of(request.body, kind)), directives)
        exchange.generation = recital
        recital.start()

    def _late(self, exchange: Connection, request: Request, directives: Directives, speech: Speech) -> None:
        exchange.delayed = None
        try:
            self._begin(exchange, request, directives, speech)
        except EngineError as error:
            self.refuse(exchange, error)

    def _begin(self, exchange: Connection, request: Request, directives: Directives, speech: Speech) -> None:
        if directives.status is not None:
            raise refusal(directives.status)
        kind = "application/json" if speech.any_type else request.headers.get("content-type", "")
        asked = speech.read(requests.body_of(request.body, kind), self.engine.settings)
        self.engine.admit(asked)
        # The id echoes the client's own (a14_stream_xrequestid, c12_bad_request_id_header).
        id_ = request.headers.get("x-request-id") or secrets.token_hex(8)

        def begin(on_over: Callable[[], None] | None = None) -> None:
            exchange.delayed = None
            generation = Generation(
                self.engine, exchange, asked, directives, speech.prefix + id_, speech.voice, on_over
            )
            exchange.generation = generation
            generation.start()

        if speech.before is None:
            begin()
        else:
            speech.before(exchange, asked, begin)

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
