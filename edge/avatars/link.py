"""The way to the compositor: one gRPC channel, what avatars there are, and sessions.

Loads grpc, so only who has avatars configured imports it.
"""

from __future__ import annotations

import asyncio
from time import monotonic
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

import grpc
import grpc.aio

from edge.avatars.call import Call, error_of_rpc
from edge.avatars.settings import AvatarSettings, grpc_credentials
from streamkit.wire.errors import Code, HeadraceError
from streamkit.wire.pb import compositor_pb2 as pb
from streamkit.wire.pb.compositor_pb2_grpc import CompositorStub

if TYPE_CHECKING:
    # Types only: at run time there is one class for both kinds of channel.
    from streamkit.wire.pb.compositor_pb2_grpc import CompositorAsyncStub

__all__ = ["CompositorLink"]

#: The list of avatars is asked for at most so often for each tenant.
_LIST_S: Final = 1.0
_TENANTS: Final = 256
_MESSAGE_BYTES: Final = 8 * 1024 * 1024
_ASK_S: Final = 2.0


class CompositorLink:
    """A channel to one compositor.

    Args:
        settings: has its address, and the files of mutual TLS.

    Raises:
        SettingsError: a file cannot be used.
    """

    def __init__(self, settings: AvatarSettings) -> None:
        parts = urlsplit(settings.compositor_url)
        self._target = parts.netloc
        self._credentials = grpc_credentials(settings) if parts.scheme == "grpcs" else None
        self._open_s = settings.open_ms / 1000
        self._channel: grpc.aio.Channel | None = None
        self._lists: dict[str, tuple[float, tuple[pb.Avatar, ...]]] = {}

    async def avatars(self, tenant: str) -> tuple[pb.Avatar, ...]:
        """Return what avatars a tenant has, ready or not.

        Raises:
            HeadraceError: the compositor cannot be asked.
        """
        known = self._lists.get(tenant)
        if known is not None and monotonic() - known[0] < _LIST_S:
            return known[1]
        try:
            answer = await self._stub().ListAvatars(pb.ListAvatarsRequest(tenant=tenant), timeout=_ASK_S)
        except grpc.aio.AioRpcError as exc:
            raise error_of_rpc(exc) from None
        found = tuple(answer.avatars)
        self._lists[tenant] = (monotonic(), found)
        while len(self._lists) > _TENANTS:
            del self._lists[next(iter(self._lists))]
        return found

    async def avatar(self, name: str, tenant: str) -> pb.Avatar:
        """Return one avatar that is ready.

        Raises:
            HeadraceError: NOT_FOUND, NOT_READY, or the compositor cannot be asked.
        """
        found = next((avatar for avatar in await self.avatars(tenant) if avatar.avatar == name), None)
        if found is None:
            text = f"There is no avatar `{name[:100]}`; GET /v1/avatars lists them."
            raise HeadraceError(Code.NOT_FOUND, text, param="avatar")
        if not found.ready:
            text = f"The avatar {name} is not ready: {found.reason or 'it is being prepared'}. Try again shortly."
            raise HeadraceError(Code.NOT_READY, text, param="avatar")
        return found

    async def open(self, request: pb.Open) -> Call:
        """Begin a session.

        Raises:
            HeadraceError: the compositor refuses, or cannot be reached.
        """
        call = self._stub().Session()
        try:
            async with asyncio.timeout(self._open_s):
                await call.write(pb.SessionRequest(open=request))
                reply = await call.read()
        except grpc.aio.AioRpcError as exc:
            raise error_of_rpc(exc) from None
        except TimeoutError:
            call.cancel()
            text = f"The compositor has opened no session within open_ms = {self._open_s * 1000:g}."
            raise HeadraceError(Code.BACKEND_TIMEOUT, text) from None
        except asyncio.CancelledError:
            call.cancel()
            raise
        if not isinstance(reply, pb.SessionReply) or reply.WhichOneof("reply") != "opened":
            call.cancel()
            raise HeadraceError(Code.BACKEND_ERROR, "The compositor did not begin its session with `opened`.")
        return Call(call, reply.opened)

    async def close(self) -> None:
        """Close the channel."""
        channel, self._channel = self._channel, None
        if channel is not None:
            await channel.close()

    def _stub(self) -> CompositorAsyncStub:
        if self._channel is None:
            options = [
                ("grpc.max_receive_message_length", _MESSAGE_BYTES),
                ("grpc.initial_reconnect_backoff_ms", 100),
                ("grpc.min_reconnect_backoff_ms", 100),
                ("grpc.max_reconnect_backoff_ms", 1_000),
                ("grpc.use_local_subchannel_pool", 1),
                ("grpc.keepalive_time_ms", 20_000),
                ("grpc.keepalive_timeout_ms", 10_000),
            ]
            self._channel = (
                grpc.aio.insecure_channel(self._target, options=options)
                if self._credentials is None
                else grpc.aio.secure_channel(self._target, self._credentials, options=options)
            )
        stub: CompositorAsyncStub = CompositorStub(self._channel)
        return stub
