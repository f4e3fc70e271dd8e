"""What `headrace up` tells the observability centre: whose events to gather, which edge to probe."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec

from streamkit.wire.address import place

if TYPE_CHECKING:
    from launch.child import Child
    from launch.configuration import Configuration
    from observe.settings import ObserveSettings, ProberSettings

__all__ = ["observing", "probing"]

#: Services with a feed of events, by the table that has their ops port.
_FEEDS: Final = ("control", "arbiter", "inference", "compositor")


def observing(plan: Configuration, children: Mapping[str, Child], folder: Path, nats_url: str) -> ObserveSettings:
    """Return `[observe]` with what was left open filled in.

    Args:
        plan: of all that runs; it has an `[observe]`.
        children: those that run already, whose ports are certain.
        folder: for its files.
        nats_url: where the broker beside it answers; empty = not known.
    """
    found = plan.observe
    if found is None:
        raise RuntimeError("no observability centre was asked for")
    default = {field.name: field.default for field in msgspec.structs.fields(found)}
    if nats_url and found.nats_url == default["nats_url"]:
        found = msgspec.structs.replace(found, nats_url=nats_url)
    if not found.state_dir:
        found = msgspec.structs.replace(found, state_dir=str((folder / "observe").resolve()))
    if not found.feeds:
        found = msgspec.structs.replace(found, feeds=tuple(_feeds(plan, children)))
    return found


def probing(
    plan: Configuration, url_of: Callable[[str, str, int], str | None], control_url: str | None
) -> ProberSettings | None:
    """Return `[prober]` with this machine's edge and control filled in; None = there is no such table."""
    found = plan.prober
    if found is None:
        return None
    if not found.edges and (url := url_of("edge", plan.edge.host, plan.edge.port)):
        found = msgspec.structs.replace(found, edges=(url,), ca_file=found.ca_file or plan.edge.tls_cert)
    default = {field.name: field.default for field in msgspec.structs.fields(found)}
    if control_url and found.control_url == default["control_url"]:
        found = msgspec.structs.replace(found, control_url=control_url)
    return found


def _feeds(plan: Configuration, children: Mapping[str, Child]) -> Iterator[str]:
    """Yield name and ops address of every service whose address is known."""
    edge = children.get("edge")
    workers: list[dict[str, Any]] = edge.ready.get("workers", []) if edge is not None else []
    if edge is not None:
        urls = [str(worker["ops_url"]) for worker in workers] or [str(edge.ready["ops_url"])]
    else:
        port = plan.edge.ops_port
        urls = (
            [f"http://{place(plan.edge.ops_host, port + worker)}" for worker in range(max(1, plan.edge.workers))]
            if port
            else []
        )
    yield from (f"edge{f'-{number}' if number else ''}={url}" for number, url in enumerate(urls))
    for name in _FEEDS:
        settings = getattr(plan, name, None)
        if settings is None:
            continue
        if name in children:
            yield f"{name}={children[name].ready['ops_url']}"
        elif settings.ops_port:
            yield f"{name}=http://{place(getattr(settings, 'ops_host', settings.host), settings.ops_port)}"
