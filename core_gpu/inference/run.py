"""Running the inference server as a process: settings in, exit status out."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Final

from grpc import aio

from core_gpu.inference.meters import Meters, watch
from core_gpu.inference.report import beginning, ending
from core_gpu.inference.server import InferenceServer
from core_gpu.inference.service import InferenceService
from core_gpu.inference.settings import InferenceSettings
from streamkit.ops import log
from streamkit.ops.events import EventFeed
from streamkit.ops.grpc_front import GrpcFront, Tls
from streamkit.ops.health import ops_app
from streamkit.ops.lifecycle import Lifecycle
from streamkit.ops.metrics import Metrics
from streamkit.ops.server import Listener, run, serve
from streamkit.ops.settings import SettingsError
from streamkit.wire.pb import inference_pb2, inference_pb2_grpc

__all__ = ["PROTO_PACKAGE", "main"]

_EXIT_SETTINGS: Final = 2
_MIB: Final = 1024 * 1024
PROTO_PACKAGE: Final[str] = inference_pb2.DESCRIPTOR.package


def main(
    settings: InferenceSettings,
    *,
    ready_file: str | None = None,
    source: str = "",
    warnings: Sequence[str] = (),
) -> int:
    """Run the inference server until a signal ends it, and return the exit status.

    0 = stopped as asked; 2 = the settings or the address cannot be used.

    Args:
        settings: the server's own.
        ready_file: written once it answers, removed at the end.
        source: the users' `config.yaml` that they come from: its start-up report is printed; empty = another file.
        warnings: of reading it.
    """
    log.configure("inference")
    try:
        tls = Tls.from_files(
            settings.host, settings.tls_cert_file, settings.tls_key_file, settings.tls_client_ca_file
        )
    except SettingsError as error:
        print(f"inference: {error}", file=sys.stderr)  # noqa: T201  it must be seen under any log level
        return _EXIT_SETTINGS
    if source:
        _print(beginning(settings, source, warnings))
    return run(lambda: _serve(settings, tls, ready_file, report=bool(source)))


class _Front(GrpcFront):
    """The gRPC server; says so on the terminal once it listens."""

    def __init__(self, *arguments: object, server: InferenceServer, report: bool, **keywords: object) -> None:
        super().__init__(*arguments, **keywords)  # type: ignore[arg-type]
        self._inference = server
        self._report = report

    async def start(self) -> bool:
        """Load what is to be there from the start, then answer."""
        await self._inference.start()
        problems = await self._inference.preload()
        started = await super().start()
        if self._report:
            _print(ending(self._inference.settings, self._inference.registry, problems, self.url))
        elif problems:
            print("\n".join(f"inference: {problem}" for problem in problems), file=sys.stderr)  # noqa: T201
        return started


async def _serve(settings: InferenceSettings, tls: Tls | None, ready_file: str | None, *, report: bool) -> int:
    lifecycle = Lifecycle(settle_ms=settings.settle_ms, drain_ms=settings.drain_ms)
    metrics = Metrics()
    server = InferenceServer(settings, Meters(metrics))
    watch(metrics, server)
    service = InferenceService(server)

    def add(grpc_server: aio.Server) -> None:
        inference_pb2_grpc.add_InferenceServiceServicer_to_server(service, grpc_server)

    message_bytes = settings.max_message_mb * _MIB
    return await serve(
        name="inference",
        kind="inference",
        public=_Front(
            add,
            lifecycle,
            host=settings.host,
            port=settings.port,
            tls=tls,
            max_calls=settings.max_calls,
            max_message_bytes=message_bytes,
            on_stop=server.stop,
            # Sixteen frames of float32 are 20 MB: gRPC's own default for what is sent has no bound.
            options=[("grpc.max_send_message_length", message_bytes)],
            server=server,
            report=report,
        ),
        ops=Listener(
            app=ops_app(lifecycle, metrics=metrics.exposition, checks={}, feed=EventFeed()),
            host=settings.ops_host,
            port=settings.ops_port,
        ),
        lifecycle=lifecycle,
        ready_file=ready_file,
        ready_extra={
            "proto_package": PROTO_PACKAGE,
            "models": server.registry.catalogue.names(),
            "device": settings.device,
            "pid": os.getpid(),
        },
    )


def _print(lines: Sequence[str]) -> None:
    print("\n".join(lines), flush=True)  # noqa: T201  it is what the command says
