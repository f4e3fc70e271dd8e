"""The gRPC server of a simulated TensorFlow Serving."""

from __future__ import annotations

import grpc.aio

from simulator.engine import Engine
from simulator.tf.service import Service
from simulator.tf.versions import Versions
from streamkit.wire.address import place
from streamkit.wire.pb import tfserving_pb2_grpc as services

__all__ = ["GrpcServer"]


class GrpcServer:
    """A listening server. Made by `GrpcServer.start`.

    Attributes:
        url: `grpc://host:port`.
    """

    def __init__(self, server: grpc.aio.Server, url: str) -> None:
        self._server = server
        self.url = url

    @classmethod
    async def start(cls, engine: Engine, versions: Versions) -> GrpcServer:
        """Listen on `grpc_port`.

        Raises:
            OSError: the address cannot be listened on.
        """
        settings = engine.settings
        server = grpc.aio.server(options=[("grpc.max_receive_message_length", -1), ("grpc.so_reuseport", 0)])
        service = Service(engine, versions)
        services.add_PredictionServiceServicer_to_server(service, server)
        services.add_ModelServiceServicer_to_server(service, server)
        try:
            port = server.add_insecure_port(place(settings.host, settings.grpc_port))
        except RuntimeError as error:
            raise OSError(f"gRPC on port {settings.grpc_port}: {error}") from None
        await server.start()
        return cls(server, f"grpc://{place(settings.host, port)}")

    async def close(self) -> None:
        """Stop at once."""
        await self._server.stop(None)
