"""All checks in the order in which a person would mend what they find."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Final

from launch.doctor import disk, engines, machine, neighbours, software
from launch.doctor.certificates import certificates, pairs
from launch.doctor.finding import Finding, unasked
from launch.doctor.listening import listening
from launch.doctor.media import media
from launch.doctor.roles import Roles, addresses, extras
from launch.doctor.stun import Server, ServerError, parsed
from launch.folder import found_store
from launch.media import contained
from launch.ports import PORT_BASE
from streamkit.ops.http_client import HttpClient

__all__ = ["checkup"]

_STORE_BYTES: Final = 64 * 1024 * 1024


async def checkup(roles: Roles, relays: Sequence[Server] = ()) -> AsyncIterator[Finding]:
    """Yield what every check found.

    Args:
        roles: what is to run here.
        relays: STUN and TURN servers that viewers are told.
    """
    for finding in software.versions():
        yield finding
    asked = software.requirements()
    yield software.pins(asked)
    for finding in software.extras(asked, tuple(dict.fromkeys(extras(roles)))):
        yield finding
    wanted = list(addresses(roles))
    kernel = machine.Kernel()
    for finding in (machine.files(), machine.backlog(kernel), machine.buffers(kernel)):
        yield finding
    for finding in machine.local_ports(kernel, [(address.key, address.port) for address in wanted]):
        yield finding
    yield machine.clock()
    for finding in _folders(roles):
        yield finding
    inside = contained()
    # The broker's files are in its own container; observe reads none of them.
    for finding in certificates(pair for pair in pairs(roles) if not (inside and pair.key.startswith("observe"))):
        yield finding
    yield neighbours.gpus(roles)
    for finding in media(roles, inside=inside):
        yield finding
    async with HttpClient() as http:
        async for finding in listening(http, wanted):
            yield finding
        for backend in roles.backends:
            for finding in await engines.engine(http, backend):
                yield finding
    told, unread = _relays(roles)
    for finding in unread:
        yield finding
    ways = (neighbours.control(roles), neighbours.signals(roles), neighbours.links(roles))
    for found in (*ways, neighbours.relays((*relays, *told))):
        async for finding in found:
            yield finding


def _relays(roles: Roles) -> tuple[list[Server], list[Finding]]:
    """Return the STUN and TURN servers that this edge tells its viewers of, and those that cannot be asked."""
    webrtc = getattr(roles.settings.get("edge"), "webrtc", None)
    found: list[Server] = []
    unread: list[Finding] = []
    for uri in getattr(webrtc, "ice_servers", ()):
        try:
            found.append(parsed(uri))
        except ServerError as error:
            unread.append(unasked("turn", str(error)))
    return found, unread


def _folders(roles: Roles) -> list[Finding]:
    found = []
    if (control := roles.settings.get("control")) is not None:
        store = Path(control.store_path or found_store(PORT_BASE))
        found.append(disk.folder("disk.keys", store, needs_bytes=_STORE_BYTES, lasting=True))
    if (observe := roles.settings.get("observe")) is not None and observe.tallies:
        usage = Path(observe.state_dir or Path(found_store(PORT_BASE)).parent / "observe")
        found.append(disk.folder("disk.usage", usage, needs_bytes=_STORE_BYTES, lasting=True))
    if (arbiter := roles.settings.get("arbiter")) is not None:
        try:
            from core_gpu.arbiter.run import state_dir  # noqa: PLC0415  needs an extra, which is judged by itself
        except ModuleNotFoundError as error:
            return [*found, unasked("disk.ledger", f"the package {error.name} is missing")]
        # The database and the log beside it.
        needs = 2 * arbiter.ledger_max_bytes
        found.append(disk.folder("disk.ledger", state_dir(arbiter), needs_bytes=needs, lasting=False))
    return found
