"""Running the compositor as a process: settings in, exit status out."""

from __future__ import annotations

import os
import sys
from typing import Final

from grpc import aio

from compositor.encode.codecs import NAMES
from compositor.meters import Meters, watch
from compositor.mouths.link import InferenceLink
from compositor.service import CompositorService
from compositor.settings import AvatarSettings, CompositorSettings
from compositor.speech.settings import SpeechSettings
from compositor.speech.voices import SpeechVoices
from compositor.studio import Studio
from streamkit.ops import log
from streamkit.ops.events import EventFeed
from streamkit.ops.grpc_front import GrpcFront, Tls
from streamkit.ops.health import ops_app
from streamkit.ops.lifecycle import Lifecycle
from streamkit.ops.metrics import Metrics
from streamkit.ops.server import Listener, run, serve
from streamkit.ops.settings import SettingsError
from streamkit.wire.pb import compositor_pb2_grpc

__all__ = ["main"]

_EXIT_SETTINGS: Final = 2
_MIB: Final = 1024 * 1024


def main(
    settings: CompositorSettings,
    avatars: tuple[AvatarSettings, ...],
    speech: SpeechSettings,
    *,
    ready_file: str | None = None,
) -> int:
    """Run the compositor until a signal ends it, and return the exit status.

    0 = stopped as asked; 2 = the settings or the address cannot be used.

    Args:
        settings: the compositor's own.
        avatars: that may be asked for.
        speech: voices.
        ready_file: written once it answers, removed at the end.
    """
    log.configure("compositor")
    try:
        tls = Tls.from_files(
            settings.host, settings.tls_cert_file, settings.tls_key_file, settings.tls_client_ca_file
        )
        link = InferenceLink(settings)
    except SettingsError as error:
        print(f"compositor: {error}", file=sys.stderr)  # noqa: T201  it must be seen under any log level
        return _EXIT_SETTINGS
    return run(lambda: _serve(settings, avatars, speech, link, tls, ready_file))


async def _serve(
    settings: CompositorSettings,
    avatars: tuple[AvatarSettings, ...],
    speech: SpeechSettings,
    link: InferenceLink,
    tls: Tls | None,
    ready_file: str | None,
) -> int:
    lifecycle = Lifecycle(settle_ms=settings.settle_ms, drain_ms=settings.drain_ms)
    metrics = Metrics()
    voices = SpeechVoices.on(speech, lambda: link.stub, metrics)
    studio = Studio(settings, avatars, link, voices, Meters(metrics))
    watch(metrics, studio)
    codecs = [NAMES[codec] for codec in studio.workshop.codecs.available]
    for name in settings.codecs:
        if name not in codecs:
            print(f"compositor: {name} cannot be encoded here: it is left out", file=sys.stderr)  # noqa: T201  as above
    service = CompositorService(studio)

    def add(server: aio.Server) -> None:
        compositor_pb2_grpc.add_CompositorServicer_to_server(service, server)

    async def start() -> None:
        await link.start()
        await voices.start()
        studio.start()

    async def stop() -> None:
        await studio.stop()
        await voices.aclose()
        await link.stop()

    message_bytes = settings.max_message_mb * _MIB
    return await serve(
        name="compositor",
        kind="compositor",
        public=GrpcFront(
            add,
            lifecycle,
            host=settings.host,
            port=settings.port,
            tls=tls,
            max_calls=settings.max_calls,
            max_message_bytes=message_bytes,
            on_start=start,
            on_stop=stop,
            options=[("grpc.max_send_message_length", message_bytes)],
        ),
        ops=Listener(
            app=ops_app(lifecycle, metrics=metrics.exposition, checks={}, feed=EventFeed()),
            host=settings.ops_host,
            port=settings.ops_port,
        ),
        lifecycle=lifecycle,
        ready_file=ready_file,
        ready_extra={
            "avatars": [avatar.id for avatar in avatars],
            "codecs": codecs,
            "pid": os.getpid(),
        },
    )
