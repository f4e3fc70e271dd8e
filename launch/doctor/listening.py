"""Whether the services can have their ports, and who has them if not."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
from collections.abc import AsyncIterator, Iterable
from typing import Final

import msgspec

from launch.doctor.finding import Finding, bad, good
from launch.doctor.roles import Address
from streamkit.ops.http_client import HttpClient, HttpError
from streamkit.ops.listener import BindError, Listener, bound
from streamkit.wire.address import place
from streamkit.wire.unreadable import UNREADABLE

__all__ = ["listening"]

_ASK_MS: Final = 1_000
_BROKER: Final = b"INFO {"


async def listening(http: HttpClient, wanted: Iterable[Address]) -> AsyncIterator[Finding]:
    """Judge every address; one that Headrace itself holds already is as it should be."""
    addresses = list(wanted)
    ours: dict[str, bool] = {}
    for address in addresses:
        why = _refusal(address)
        check = f"port.{address.key}"
        where = f"{address.host}:{address.port}"
        if why is None:
            yield good(check, f"{where} is free")
            continue
        service = address.key.partition(".")[0]
        if service not in ours:
            ours[service] = await _runs(http, service, addresses)
        if ours[service]:
            yield good(check, f"{where} is held by Headrace, which runs")
        else:
            yield bad(check, f"{where}: {why}", _mend(address, why))


def _mend(address: Address, why: str) -> str:
    if why != os.strerror(errno.EADDRINUSE):
        return f"give {address.key.partition('.')[0]} an address of this machine, and a port that this user may take"
    return f"stop what has it (ss -ltnp 'sport = :{address.port}'), or set {address.key}"


def _refusal(address: Address) -> str | None:
    try:
        with bound(Listener(app=_nobody, host=address.host, port=address.port)):
            return None
    except BindError as error:
        return str(error).rpartition(": ")[2]


async def _nobody(*_: object) -> None:
    """Stand in for the application behind an address that is only tried."""


async def _runs(http: HttpClient, service: str, addresses: Iterable[Address]) -> bool:
    """Say whether it is this service of ours that has its ports: its ops page, or what only it would say."""
    own = [address for address in addresses if address.key.partition(".")[0] == service]
    if service == "nats":
        return bool(own) and await _is_broker(own[0])
    pages = [
        f"http://{place(address.host, address.port)}/healthz" for address in own if address.key.endswith(".ops_port")
    ]
    if service == "simulator":
        pages = [f"http://{place(address.host, address.port)}/sim/fault" for address in own]
    for page in pages:
        with contextlib.suppress(HttpError, *UNREADABLE):
            answer = await http.get(page, timeout_ms=_ASK_MS)
            if answer.status == 200 and isinstance(msgspec.json.decode(answer.body), dict):
                return True
    return False


async def _is_broker(address: Address) -> bool:
    try:
        async with asyncio.timeout(_ASK_MS / 1000):
            reader, writer = await asyncio.open_connection(address.host, address.port)
            try:
                return (await reader.read(len(_BROKER))).startswith(_BROKER)
            finally:
                writer.close()
    except (OSError, TimeoutError):
        return False
