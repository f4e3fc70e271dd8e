"""Settings of the observability centre: `[observe]`, `[prober]` and `[healing]` of `headrace.toml`."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from observe.conf import BrokerPlan
from streamkit.ops.settings import SettingsError
from streamkit.wire.ids import node_name
from streamkit.wire.telemetry import SITE

__all__ = ["HealingSettings", "ObserveSettings", "ProberSettings"]

_Port = Annotated[int, msgspec.Meta(ge=0, le=65_535)]
_Ms = Annotated[int, msgspec.Meta(ge=1, le=86_400_000)]
_Bytes = Annotated[int, msgspec.Meta(ge=64 * 1024, le=1 << 44)]
_Site = Annotated[str, msgspec.Meta(pattern=rf"^{SITE}\Z")]
_Url = Annotated[str, msgspec.Meta(pattern=r"^https?://[^\s]+$")]
_Feed = Annotated[str, msgspec.Meta(pattern=r"^[a-z][a-z0-9-]{0,31}=https?://[^\s]+$")]
_Ratio = Annotated[float, msgspec.Meta(ge=1, le=1_000)]
_Count = Annotated[int, msgspec.Meta(ge=1, le=1_000)]
MIB = 1024 * 1024


class ObserveSettings(msgspec.Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """Events and what was used. Durations are in milliseconds."""

    #: edge = beside one site: gathers its events. central = at the hub: gathers all sites'.
    role: Literal["edge", "central"] = "edge"
    #: Name of this site, `[a-z0-9-]`, and of its JetStream domain; empty = the host's name.
    site: Annotated[str, msgspec.Meta(pattern=rf"^(?:{SITE})?\Z")] = ""
    #: Address of its page of usage and paths, which asks for no key: anything but loopback is refused.
    host: Annotated[str, msgspec.Meta(pattern=r"^(127\.[0-9.]+|localhost|::1)$")] = "127.0.0.1"
    #: Port of that page; 0 = a free one.
    port: _Port = 7_441
    #: Address for health, metrics and events, which ask for no key: keep it private.
    ops_host: str = "127.0.0.1"
    #: Port for health, metrics and events; 0 = a free one.
    ops_port: _Port = 7_425

    #: The NATS server beside it, with JetStream.
    nats_url: Annotated[str, msgspec.Meta(pattern=r"^nats://[^/@\s]+$")] = "nats://127.0.0.1:7440"
    #: Folder for what was read and what was used; empty = `observe` in `.headrace/7400` here, or beside the files of
    #: `headrace up`.
    state_dir: str = ""
    #: Whose events are gathered: names and ops addresses, such as "edge=http://127.0.0.1:7410".
    feeds: tuple[_Feed, ...] = ()
    #: Events that wait while the broker is away; the oldest go first, and are counted.
    spool_bytes: _Bytes = 64 * MIB
    #: What the broker keeps of events on its disk, and for how long.
    stream_bytes: _Bytes = 1024 * MIB
    stream_age_ms: Annotated[int, msgspec.Meta(ge=60_000, le=31_536_000_000)] = 2_592_000_000
    #: central: the sites that are gathered from, its own left out.
    sites: tuple[_Site, ...] = ()
    #: Count what keys and tenants use, and tell control: once in the system, so not where a hub does it.
    tally: Literal["auto", "on", "off"] = "auto"

    #: For `headrace observe config`: where this site's broker listens for clients …
    broker_host: str = "127.0.0.1"
    broker_port: _Port = 7_440
    #: … and where it keeps its streams.
    broker_dir: str = "nats"
    #: edge: where the hub takes sites in, `nats-leaf://host:7422`; empty = a site by itself.
    hub_url: Annotated[str, msgspec.Meta(pattern=r"^$|^(nats-leaf|tls)://[^/@\s]+$")] = ""
    #: central: where it takes sites in. Anything but loopback needs the three TLS files.
    leaf_host: str = "127.0.0.1"
    leaf_port: _Port = 7_422
    #: PEM files of mutual TLS between site and hub: a certificate, its key, and the authority of the other side.
    leaf_cert_file: str = ""
    leaf_key_file: str = ""
    leaf_ca_file: str = ""

    #: How long it still answers after it stopped being ready.
    settle_ms: Annotated[int, msgspec.Meta(ge=0, le=600_000)] = 0
    #: Time for events under way to be stored when it stops.
    drain_ms: _Ms = 2_000

    @property
    def site_name(self) -> str:
        """This site's name."""
        return self.site or node_name()

    @property
    def tallies(self) -> bool:
        """Whether usage is counted here."""
        return self.tally == "on" or (self.tally == "auto" and (self.role == "central" or not self.hub_url))

    def broker(self) -> BrokerPlan:
        """Return the plan of this site's broker.

        Raises:
            SettingsError: some of the TLS files are missing, or all where they are needed.
        """
        files = (self.leaf_cert_file, self.leaf_key_file, self.leaf_ca_file)
        if any(files) and not all(files):
            raise SettingsError("observe.leaf_cert_file, leaf_key_file and leaf_ca_file: all three, or none")
        try:
            return BrokerPlan(
                site=self.site_name,
                host=self.broker_host,
                port=self.broker_port,
                store_dir=self.broker_dir,
                stream_bytes=self.stream_bytes,
                central=self.role == "central",
                hub_url=self.hub_url,
                leaf_host=self.leaf_host if self.role == "central" else "",
                leaf_port=self.leaf_port,
                leaf_tls=files if all(files) else None,
            )
        except ValueError as error:
            raise SettingsError(f"observe: {error}") from None


class ProberSettings(msgspec.Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """Tiny streams through every edge to every backend, and what counts as sick."""

    #: Public addresses of the edges that are probed; none = nothing is.
    edges: tuple[_Url, ...] = ()
    #: Where control answers: it knows the backends, and takes healing acts.
    control_url: _Url = "http://127.0.0.1:7401"
    #: The environment variable with the secret that control demands (its `edge_secret_env`); empty = none.
    control_secret_env: str = ""
    #: The environment variable with an operator's key, where edges demand keys; empty = none.
    key_env: str = ""
    #: PEM file with the authorities, or the certificates, that https addresses must show; empty = the system's.
    ca_file: str = ""
    #: Pause between two probes of one path.
    every_ms: Annotated[int, msgspec.Meta(ge=50, le=600_000)] = 2_000
    #: A probe that is not whole by then has failed.
    timeout_ms: Annotated[int, msgspec.Meta(ge=50, le=60_000)] = 2_000
    #: Tokens that a probe asks for.
    tokens: Annotated[int, msgspec.Meta(ge=1, le=64)] = 4

    #: A time to the first token is a spike above both: this, and so many times the path's usual one …
    ttft_floor_ms: _Ms = 500
    ttft_times: _Ratio = 4.0
    #: … and a gap between tokens likewise.
    gap_floor_ms: _Ms = 250
    gap_times: _Ratio = 6.0
    #: Good probes of a path before its usual figures are known; until then only failures count.
    baseline_probes: _Count = 5
    #: Good probes that its usual figures are taken from, the newest ones.
    baseline_kept: _Count = 120
    #: Spikes and failures in a row that make a path sick, and good probes in a row that end it.
    sick_after: _Count = 3
    well_after: _Count = 3


class HealingSettings(msgspec.Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """What is done about a sick backend. Every act is an event."""

    #: off, dry-run (tell what would be done, and do nothing), or on.
    mode: Literal["off", "dry-run", "on"] = "dry-run"
    #: Acts within `window_ms`, all backends together; beyond them nothing is done.
    max_acts: _Count = 6
    window_ms: _Ms = 600_000
    #: Least time between two acts against one backend; ending a hold is none.
    pause_ms: _Ms = 60_000
    #: A hold ends by itself so long after the last word of whoever made it.
    hold_ms: Annotated[int, msgspec.Meta(ge=1_000, le=600_000)] = 30_000
    #: Ask the arbiter for a restart of a backend that is held and still sick after so long; 0 = never. It runs its
    #: own command, and only where `on_sick` of the budget says so.
    restart_after_ms: Annotated[int, msgspec.Meta(ge=0, le=86_400_000)] = 20_000
