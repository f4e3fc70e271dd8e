"""Whether the other services are reached that those of this machine need: control, the broker, the arbiter, TURN."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterable
from typing import Any, Final

from edge.exposure import control_headers, control_trust
from launch.doctor.engines import reached
from launch.doctor.finding import Finding, bad, good, warning
from launch.doctor.roles import Roles
from launch.doctor.stun import Server, ServerError, ask
from streamkit.ops.http_client import HttpClient, HttpError
from streamkit.ops.settings import SettingsError

__all__ = ["control", "gpus", "links", "relays", "signals"]

_ASK_MS: Final = 3_000
_UNAUTHENTICATED: Final = 401


async def control(roles: Roles) -> AsyncIterator[Finding]:
    """Judge the way from this machine's edge to a control that runs elsewhere."""
    edge = roles.settings.get("edge")
    if edge is None or "control" in roles.settings:
        return
    check = "control"
    try:
        headers, trust = control_headers(edge), control_trust(edge)
    except SettingsError as error:
        yield bad(check, str(error), "see docs/operations/security.md")
        return
    url = f"{edge.control_url.rstrip('/')}/v1/backends"
    async with HttpClient(tls=trust) as http:
        begun = time.monotonic()
        try:
            answer = await http.get(url, timeout_ms=_ASK_MS, headers=headers)
        except HttpError as error:
            yield bad(check, error.detail, "is control running, and is edge.control_url its address?")
            return
    if answer.status in (401, 403):
        yield bad(check, f"{url} refuses this edge", "the same secret in edge.control_secret_env and control's")
    elif answer.status != 200:
        yield bad(check, f"{url} answers {answer.status}", "is edge.control_url control's own port (7401)?")
    else:
        took_ms = (time.monotonic() - begun) * 1000
        yield good(check, f"{edge.control_url} answers in {took_ms:.0f} ms")


async def signals(roles: Roles) -> AsyncIterator[Finding]:
    """Judge the way to a broker that runs elsewhere, and from inference to its arbiter."""
    urls = {
        str(url): name
        for name, settings in roles.settings.items()
        if (url := getattr(settings, "nats_url", "")) and "nats" not in roles.settings
    }
    for url, name in urls.items():
        yield await reached(f"nats.{name}", url, "is nats-server running there? (docs/operations/shedding.md)")
    inference: Any = roles.settings.get("inference")
    if inference is not None and inference.device == "cuda" and "arbiter" not in roles.settings:
        do = "no model is loaded without its lease: start headrace arbiter, or set inference.arbiter"
        yield await reached("inference.arbiter", f"grpc://{inference.arbiter}", do)


async def links(roles: Roles) -> AsyncIterator[Finding]:
    """Judge the ways of avatars, and of events, to services that run elsewhere."""
    edge, compositor, observe = (roles.settings.get(name) for name in ("edge", "compositor", "observe"))
    if edge is not None and edge.avatars.compositor_url and compositor is None:
        do = "is the compositor running there? Until it is, there are no avatars"
        yield await reached("edge.compositor", edge.avatars.compositor_url, do)
    if compositor is not None and "inference" not in roles.settings:
        do = "is the inference server running there? Until it is, mouths stay still"
        yield await reached("compositor.inference", f"grpc://{compositor.inference}", do)
    for feed in () if observe is None else observe.feeds:
        name, _, url = feed.partition("=")
        if name not in roles.settings:
            do = "is its ops port published to this machine (ops_host)? Until it is, its events are not kept"
            yield await reached(f"feed.{name}", url, do)


async def relays(servers: Iterable[Server]) -> AsyncIterator[Finding]:
    """Judge STUN and TURN servers; an unreachable one costs every viewer five seconds."""
    for server in servers:
        check = f"{'turn' if server.relays else 'stun'}.{server.host}"
        do = "open its port (3478, UDP and TCP) and its relay ports, or take it out: each viewer waits 5 s for it"
        begun = time.monotonic()
        try:
            answer = await ask(server, timeout_s=_ASK_MS / 1000)
        except TimeoutError:
            yield bad(check, f"{server.uri}: no answer within {_ASK_MS} ms", do)
            continue
        except (OSError, ServerError) as error:
            yield bad(check, f"{server.uri}: {error}", do)
            continue
        took = f"in {(time.monotonic() - begun) * 1000:.0f} ms"
        if not server.relays and answer.code == 0:
            yield good(check, f"{server.uri} answers {took}")
        elif server.relays and answer.code == _UNAUTHENTICATED:
            yield good(check, f"{server.uri} answers {took}, and asks for credentials as it should")
        elif server.relays and answer.code == 0:
            yield warning(
                check, f"{server.uri} relays for anybody, without credentials", "set use-auth-secret in coturn"
            )
        else:
            yield bad(check, f"{server.uri} refuses with {answer.code}", do)


def gpus(roles: Roles) -> Finding:
    """Judge NVIDIA's driver, where something here needs one."""
    arbiter, inference = roles.settings.get("arbiter"), roles.settings.get("inference")
    needed = getattr(arbiter, "inventory", "") == "nvml" or getattr(inference, "device", "") == "cuda"
    try:
        from core_gpu.arbiter.inventory import InventoryError  # noqa: PLC0415  needs no driver, but an extra
        from core_gpu.arbiter.nvml import NvmlInventory  # noqa: PLC0415
    except ModuleNotFoundError as error:
        return warning("driver", f"the package {error.name} is missing", "pip install 'headrace[arbiter]'")
    try:
        found = NvmlInventory()
    except InventoryError as error:
        if needed:
            do = "install NVIDIA's driver (nvidia-smi must work), or set arbiter.inventory and inference.device"
            return bad("driver", str(error), do)
        return good("driver", f"{error}; nothing here needs one")
    try:
        devices = found.devices()
    finally:
        found.close()
    return good("driver", "; ".join(f"GPU {each.index} {each.name}, {each.total_mb:,} MiB" for each in devices))
