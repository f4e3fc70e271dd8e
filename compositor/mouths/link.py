"""The channel to the inference server, and what is known of it."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Final

import grpc
from grpc import aio

from compositor.settings import CompositorSettings
from streamkit.ops.settings import SettingsError
from streamkit.wire.pb import inference_pb2 as pb
from streamkit.wire.pb.inference_pb2_grpc import InferenceServiceStub

if TYPE_CHECKING:
    from streamkit.wire.pb.inference_pb2_grpc import InferenceServiceAsyncStub

__all__ = ["InferenceLink"]

_PROBE_S: Final = 1.0
#: Sixteen mouths are 5 MB; frames to register come in pieces below the server's own 50 MiB.
_MESSAGE_BYTES: Final = 64 * 1024 * 1024


class InferenceLink:
    """The one connection of this process; many streams share it.

    Args:
        settings: the address, and how often the server is asked how it is.

    Raises:
        SettingsError: a TLS file cannot be read.
    """

    def __init__(self, settings: CompositorSettings) -> None:
        self._settings = settings
        self._channel: aio.Channel | None = None
        self._credentials = _credentials(settings)
        self._watching: asyncio.Task[None] | None = None
        #: Whether it answered when it was last asked.
        self.answers = False
        #: The models that it had then.
        self.models: frozenset[str] = frozenset()

    @property
    def stub(self) -> InferenceServiceAsyncStub:
        """Calls to the server."""
        if self._channel is None:
            raise RuntimeError("start comes first")
        return InferenceServiceStub(self._channel)

    async def start(self) -> None:
        """Connect in the background, and ask once how it is."""
        options = [
            ("grpc.max_receive_message_length", _MESSAGE_BYTES),
            ("grpc.max_send_message_length", _MESSAGE_BYTES),
            # A server that comes back is found within the time that its failure is remembered.
            ("grpc.initial_reconnect_backoff_ms", 100),
            ("grpc.min_reconnect_backoff_ms", 100),
            ("grpc.max_reconnect_backoff_ms", 1_000),
            ("grpc.keepalive_time_ms", 10_000),
            ("grpc.keepalive_timeout_ms", 5_000),
            ("grpc.use_local_subchannel_pool", 1),
        ]
        address = self._settings.inference
        if self._credentials is None:
            self._channel = aio.insecure_channel(address, options=options)
        else:
            self._channel = aio.secure_channel(address, self._credentials, options=options)
        await self._ask()
        self._watching = asyncio.create_task(self._watch(), name="inference health")

    async def stop(self) -> None:
        """Let go of the connection."""
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.gather(self._watching, return_exceptions=True)
        if self._channel is not None:
            await self._channel.close()
            self._channel = None

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(self._settings.inference_poll_ms / 1000)
            await self._ask()

    async def _ask(self) -> None:
        answered = False
        with contextlib.suppress(aio.AioRpcError):
            listed = await self.stub.ListModels(pb.ListModelsRequest(), timeout=_PROBE_S)
            self.models = frozenset(model.model_id for model in listed.models)
            answered = True
        self.answers = answered


def _credentials(settings: CompositorSettings) -> grpc.ChannelCredentials | None:
    """Return what a server with TLS is trusted by, and shown; None = it speaks in the clear."""
    if not settings.inference_ca_file:
        return None
    found: dict[str, bytes | None] = {"tls_key_file": None, "tls_cert_file": None}
    for name in ("inference_ca_file", *found):
        path = str(getattr(settings, name))
        if path:
            try:
                found[name] = Path(path).read_bytes()
            except OSError as error:
                raise SettingsError(f"{name}: {path}: cannot be read: {error.strerror}") from None
    return grpc.ssl_channel_credentials(found["inference_ca_file"], found["tls_key_file"], found["tls_cert_file"])
