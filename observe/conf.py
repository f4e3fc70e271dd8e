"""The configuration file of a site's NATS server: a JetStream domain of its own, and a leaf connection to the hub.

No cluster: two voters are fewer than one (docs/adr/0023-telemetry-over-leaf-nodes.md). A site's server goes on taking
events whatever the hub does, and the hub gathers them when it is there.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from streamkit.ops.exposure import is_loopback

__all__ = ["BrokerPlan", "written"]

MIB: Final = 1024 * 1024
#: The largest event, and what the server may hold for one slow reader.
_PAYLOAD_BYTES: Final = 64 * 1024
_PENDING_BYTES: Final = 8 * MIB


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokerPlan:
    """One site's broker.

    Args:
        site: its name, and that of its JetStream domain.
        host: for clients. There are no passwords, so it is a private address.
        port: for clients; 0 = a free one.
        store_dir: where streams lie.
        stream_bytes: bound of the site's stream.
        central: it is the hub.
        hub_url: where the hub takes sites in; empty = nowhere.
        leaf_host: the hub's address for sites; empty = it takes none.
        leaf_port: its port; 0 = a free one.
        leaf_tls: certificate, key and authority of the connection between site and hub.

    Raises:
        ValueError: sites would be taken in from anywhere without TLS.
    """

    site: str
    host: str
    port: int
    store_dir: str
    stream_bytes: int
    central: bool = False
    hub_url: str = ""
    leaf_host: str = ""
    leaf_port: int = 7_422
    leaf_tls: tuple[str, str, str] | None = None
    #: Where the server writes which ports it took; empty = nowhere.
    ports_dir: str = ""

    def __post_init__(self) -> None:
        if self.leaf_host and not is_loopback(self.leaf_host) and self.leaf_tls is None:
            raise ValueError(
                f"leaf_host: sites are taken in on {self.leaf_host} with the three leaf_*_file of mutual TLS only"
            )


def written(plan: BrokerPlan) -> str:
    """Return the configuration as `nats-server --config` reads it."""
    lines = [
        "# Written by `headrace observe config`.",
        f"server_name: {_text(plan.site)}",
        f"host: {_text(plan.host)}",
        f"port: {plan.port or -1}",
    ]
    if plan.ports_dir:
        lines.append(f"ports_file_dir: {_text(str(Path(plan.ports_dir).resolve()))}")
    lines += [
        f"max_payload: {_PAYLOAD_BYTES}",
        f"max_pending: {_PENDING_BYTES}",
        "max_connections: 1024",
        *_jetstream(plan),
    ]
    if plan.leaf_host or plan.hub_url:
        lines += ["leafnodes {", *(f"  {line}" for line in _leafnodes(plan)), "}"]
    return "\n".join(lines) + "\n"


def _jetstream(plan: BrokerPlan) -> list[str]:
    """Return the lines of the broker's JetStream."""
    # Room for the site's stream, at the hub for the gathered one as well, and for what is being written.
    room = plan.stream_bytes * (2 if plan.central else 1) + 64 * MIB
    return [
        "jetstream {",
        f"  store_dir: {_text(str(Path(plan.store_dir).resolve()))}",
        f"  domain: {_text(plan.site)}",
        f"  max_memory_store: {64 * MIB}",
        f"  max_file_store: {room}",
        # Not each message by itself: a power cut may cost the last two seconds.
        '  sync_interval: "2s"',
        "}",
    ]


def _leafnodes(plan: BrokerPlan) -> list[str]:
    lines: list[str] = []
    tls = []
    if plan.leaf_tls is not None:
        cert, key, authority = (_text(str(Path(file).resolve())) for file in plan.leaf_tls)
        tls = ["tls {", f"  cert_file: {cert}", f"  key_file: {key}", f"  ca_file: {authority}"]
    if plan.leaf_host:
        lines += [f"host: {_text(plan.leaf_host)}", f"port: {plan.leaf_port or -1}"]
        if tls:
            lines += [*tls, "  verify: true", "}"]
    if plan.hub_url:
        remote = [f"url: {_text(plan.hub_url)}", *tls, *(["}"] if tls else [])]
        lines += ['reconnect: "1s"', "remotes: [", "  {", *(f"    {line}" for line in remote), "  }", "]"]
    return lines


def _text(value: str) -> str:
    """Return a string as the server's own format has it: JSON's are its own."""
    return json.dumps(value)
