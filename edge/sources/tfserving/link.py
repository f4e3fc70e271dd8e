"""gRPC to one TensorFlow Serving: a channel, and the signatures that it told.

Imported where a backend of that engine is configured and nowhere else: it loads grpc.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from time import monotonic
from typing import Final
from urllib.parse import urlsplit

import grpc
import grpc.aio
import msgspec

from edge.protocol.predict.request import Target
from edge.protocol.predict.tensors import Spec
from edge.sources.engine import EngineLimits
from edge.sources.pool import ConnectError, PoolSettings
from edge.sources.tfserving.source import PredictSource
from edge.sources.tfserving.wire import signatures, spec_of
from edge.streams.contracts import Source
from streamkit.flow.budget import Account
from streamkit.wire.pb import tfserving_pb2 as pb
from streamkit.wire.pb import tfserving_pb2_grpc as services
from streamkit.wire.route import Candidate

__all__ = ["GrpcLink", "Signature"]

#: A model may be exchanged under its name at any time; a refusal of what the old signature allowed drops it sooner.
_SIGNATURE_S: Final = 60.0
_MAX_SIGNATURES: Final = 256
_GRACE_S: Final = 600.0


class Signature(msgspec.Struct, frozen=True):
    """The inputs of one signature of one model."""

    inputs: dict[str, Spec]
    known_at: float


class GrpcLink:
    """A channel to one server, and what is known of its models.

    Args:
        url: `grpc://host:port`, or `grpcs://` with TLS.
        settings: `connect_s` is the bound of a connection's making.
        limits: `max_response_bytes` bounds an answer.
        answers: the account that answers are charged to.
    """

    def __init__(self, url: str, settings: PoolSettings, limits: EngineLimits, answers: Account) -> None:
        parts = urlsplit(url)
        self.connect_s = settings.connect_s
        self.limits = limits
        self.answers = answers
        self._target = parts.netloc
        self._secure = parts.scheme == "grpcs"
        self._channel: grpc.aio.Channel | None = None
        self._signatures: OrderedDict[tuple[Target, str], Signature] = OrderedDict()
        self._closing: set[asyncio.Task[None]] = set()
        self.active = 0

    @property
    def idle(self) -> int:
        """One connection carries everything: none is idle while it works."""
        return int(self._channel is not None and not self.active)

    def source(self, candidate: Candidate) -> Source:
        """Return what opens predictions to the server as `candidate` describes it."""
        return PredictSource(candidate, self)

    def close(self) -> None:
        """Close the channel; predictions under way may end first."""
        self._signatures.clear()
        channel, self._channel = self._channel, None
        if channel is not None:
            task = asyncio.get_running_loop().create_task(channel.close(_GRACE_S if self.active else None))
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)

    async def ready(self) -> grpc.aio.Channel:
        """Return the channel once it is connected.

        Raises:
            ConnectError: it is not, within `connect_s`; the message holds no address.
        """
        channel = self._channel or self._made()
        try:
            async with asyncio.timeout(self.connect_s):
                state = channel.get_state(try_to_connect=True)
                while state is not grpc.ChannelConnectivity.READY:
                    if state is grpc.ChannelConnectivity.TRANSIENT_FAILURE:
                        raise ConnectError("the connection failed")
                    if state is grpc.ChannelConnectivity.SHUTDOWN:
                        raise ConnectError("the connection was closed")
                    await channel.wait_for_state_change(state)
                    state = channel.get_state(try_to_connect=True)
        except TimeoutError:
            raise ConnectError(f"no connection within {self.connect_s * 1000:g} ms") from None
        return channel

    @property
    def connected(self) -> bool:
        """The connection stands, as far as is known."""
        return self._channel is not None and self._channel.get_state() is grpc.ChannelConnectivity.READY

    async def signature(
        self, channel: grpc.aio.Channel, target: Target, name: str, *, timeout_s: float | None, metadata: Metadata
    ) -> Signature | None:
        """Return a signature, asked for once and kept for a minute; None = the model has none of that name.

        Raises:
            grpc.aio.AioRpcError: the server refused.
        """
        key = (target, name)
        known = self._signatures.get(key)
        if known is not None and monotonic() - known.known_at < _SIGNATURE_S:
            self._signatures.move_to_end(key)
            return known
        stub = services.PredictionServiceStub(channel)
        request = pb.GetModelMetadataRequest(model_spec=spec_of(target), metadata_field=["signature_def"])
        answer = await stub.GetModelMetadata(request, timeout=timeout_s, metadata=metadata)
        found = signatures(answer).get(name)
        if found is None:
            return None
        made = self._signatures[key] = Signature(found, monotonic())
        self._signatures.move_to_end(key)
        if len(self._signatures) > _MAX_SIGNATURES:
            self._signatures.popitem(last=False)
        return made

    def forget(self, target: Target, name: str) -> None:
        """The server refused what this signature allows: ask anew next time."""
        self._signatures.pop((target, name), None)

    def _made(self) -> grpc.aio.Channel:
        options = [
            ("grpc.max_receive_message_length", self.limits.max_response_bytes),
            ("grpc.max_send_message_length", -1),
            ("grpc.initial_reconnect_backoff_ms", 100),
            ("grpc.min_reconnect_backoff_ms", 100),
            ("grpc.max_reconnect_backoff_ms", 1_000),
            # Of its own: two edges in one process must not share a connection's fate.
            ("grpc.use_local_subchannel_pool", 1),
            # A network that vanished is found in half a minute, as on every other connection.
            ("grpc.keepalive_time_ms", 20_000),
            ("grpc.keepalive_timeout_ms", 10_000),
        ]
        if self._secure:
            made = grpc.aio.secure_channel(self._target, grpc.ssl_channel_credentials(), options=options)
        else:
            made = grpc.aio.insecure_channel(self._target, options=options)
        self._channel = made
        return made


Metadata = tuple[tuple[str, str], ...]
