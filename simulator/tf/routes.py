"""The REST half: model states, and the simulator's own pages. Predictions go over gRPC."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from simulator.connection import Connection
from simulator.engine import Engine
from simulator.errors import EngineError
from simulator.message import Request
from simulator.routes import Routes, Table
from simulator.tf.versions import NAMES, Versions

if TYPE_CHECKING:
    from simulator.tf.server import GrpcServer

__all__ = ["TfRoutes"]

_PREFIX = "/v1/models/"


class TfRoutes(Routes):
    """Everything that the REST port answers.

    Args:
        engine: settings, fault and counters.
    """

    def __init__(self, engine: Engine) -> None:
        super().__init__(engine)
        self._versions = Versions(engine.settings, engine.vram, engine.loop)
        self._grpc: GrpcServer | None = None

    def table(self) -> Table:
        """Return path -> method -> answer; the models' pages are looked up by name."""
        return self.queries.own_table()

    async def start(self) -> None:
        """Listen for gRPC, too."""
        # Only this flavour loads grpc.
        from simulator.tf.server import GrpcServer  # noqa: PLC0415

        self._grpc = await GrpcServer.start(self.engine, self._versions)

    @property
    def backend_url(self) -> str | None:
        """Where predictions are taken."""
        return self._grpc.url if self._grpc is not None else None

    async def close(self) -> None:
        """The server is gone."""
        if self._grpc is not None:
            await self._grpc.close()
        self._versions.close()
        await super().close()

    def handle(self, exchange: Connection, request: Request) -> None:
        """Answer a model's page, or what the table has."""
        name = request.path.removeprefix(_PREFIX)
        if request.method == "GET" and request.path.startswith(_PREFIX) and "/" not in name:
            self._state(exchange, name)
        else:
            super().handle(exchange, request)

    def refuse(self, exchange: Connection, error: EngineError) -> None:
        """Answer with an error in TensorFlow Serving's shape."""
        exchange.answer(error.status, json.dumps({"error": str(error)}).encode())

    def lost(self, exchange: Connection, allowed: list[str] | None) -> None:
        """Answer for any other path."""
        self.refuse(exchange, EngineError("Malformed request: no such path", status=404 if allowed is None else 405))

    def _state(self, exchange: Connection, name: str) -> None:
        states = self._versions.states(name)
        if not states:
            self.refuse(exchange, EngineError(f"Could not find any versions of model {name}", status=404))
            return
        status = {"error_code": "OK", "error_message": ""}
        listed = [{"version": str(one), "state": NAMES[state], "status": status} for one, state in states.items()]
        exchange.answer(200, json.dumps({"model_version_status": listed}, indent=1).encode())
