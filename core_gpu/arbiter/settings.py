"""The arbiter's settings: the `[arbiter]` table of `headrace.toml`."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from core_gpu.arbiter.allocator import Rule
from core_gpu.arbiter.shedding import ShedRule
from core_gpu.arbiter.terms import Terms

__all__ = ["ArbiterSettings"]

_Port = Annotated[int, msgspec.Meta(ge=0, le=65_535)]
_Ms = Annotated[int, msgspec.Meta(ge=1, le=86_400_000)]
_MsOrNone = Annotated[int, msgspec.Meta(ge=0, le=86_400_000)]
_Mb = Annotated[int, msgspec.Meta(ge=0, le=1_000_000)]
_GpuMb = Annotated[int, msgspec.Meta(ge=1, le=10_000_000)]
_Count = Annotated[int, msgspec.Meta(ge=1, le=1_000_000)]


class ArbiterSettings(msgspec.Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """What the arbiter needs. Durations are in milliseconds; `_mb` is MiB, as NVML's tools print it."""

    #: Address for holders of leases. Anything but loopback needs the three TLS files.
    host: str = "127.0.0.1"
    #: gRPC port; 0 = a free one. `headrace up` puts it on its port base + 51.
    port: _Port = 50_051
    #: Address for health, metrics and events, which ask for no key: keep it private.
    ops_host: str = "127.0.0.1"
    #: Port for health, metrics and events; 0 = a free one.
    ops_port: _Port = 7_428
    #: PEM files: the certificate, its key, and the authority whose clients are let in (mutual TLS).
    tls_cert_file: str = ""
    tls_key_file: str = ""
    tls_client_ca_file: str = ""
    #: Where the ledger lies; empty = `$XDG_STATE_HOME/headrace/arbiter`, or below `~/.local/state`.
    state_dir: str = ""
    #: Bound of the ledger's database, and of the log beside it.
    ledger_max_bytes: Annotated[int, msgspec.Meta(ge=65_536, le=1 << 40)] = 64 * 1024 * 1024

    #: Where GPUs come from: NVIDIA's driver, the list below, or whichever there is.
    inventory: Literal["auto", "nvml", "static"] = "auto"
    #: Memory of each GPU of a static inventory, in MiB.
    static_gpus_mb: Annotated[tuple[_GpuMb, ...], msgspec.Meta(min_length=1, max_length=64)] = (24_000,)
    #: Pause between two measurements.
    snapshot_ms: Annotated[int, msgspec.Meta(ge=10, le=200)] = 200
    #: Nothing is granted on a measurement that is older.
    stale_ms: _Ms = 500

    #: Share of a GPU's memory that all its users together may take.
    cap_share: Annotated[float, msgspec.Meta(gt=0, le=1)] = 0.9
    #: Kept free beneath the cap, for what no lease asks for.
    margin_mb: _Mb = 256
    #: What a process may keep and still count as having let go: its CUDA context.
    residue_mb: _Mb = 512

    #: A lease lasts so long without a renewal, if its holder does not say.
    default_ttl_ms: _Ms = 30_000
    #: And so long at most.
    max_ttl_ms: _Ms = 86_400_000
    #: Leases at a time.
    max_leases: _Count = 65_536
    #: Requests that may wait at a time, and for how long.
    max_waiting: _Count = 1_024
    max_wait_ms: _Ms = 600_000
    #: Waiting so long counts as one class of priority in the line; 0 = waiting counts for nothing.
    ageing_ms: _MsOrNone = 5_000
    #: Watches of leases at a time.
    max_watches: _Count = 8_192

    #: A lease is not taken from its holder before it has had it for so long.
    min_residency_ms: _MsOrNone = 10_000
    #: A noticed holder has so long to give its lease up.
    grace_ms: _MsOrNone = 5_000
    #: After that its engine's adapter has so long to make room, before the lease is fenced.
    make_room_ms: _MsOrNone = 10_000
    #: Memory of an expired or fenced lease that is not back by then belongs to no lease any more.
    reclaim_ms: _MsOrNone = 60_000
    #: After a restart every lease lasts at least so long, for its holder to renew it.
    restart_grace_ms: _MsOrNone = 5_000
    #: Longest start-up of an engine, if it does not say.
    startup_ms: _Ms = 600_000

    #: This machine's name for its backends' pressure, `[a-z0-9-]`; empty = its host name.
    node: Annotated[str, msgspec.Meta(pattern=r"^([a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?)?$")] = ""
    #: The NATS server on which pressure is published, `nats://host:port`; empty = nowhere.
    nats_url: Annotated[str, msgspec.Meta(pattern=r"^$|^nats://[^/@\s]+$")] = ""
    #: Pause between two publications; a change is told at once. Control calls a second of silence stale.
    state_ms: Annotated[int, msgspec.Meta(ge=10, le=500)] = 200

    #: Pause between two looks at a backend of this host.
    look_ms: Annotated[int, msgspec.Meta(ge=10, le=10_000)] = 500
    #: Requests in a backend over those that it serves at a time: from here on it is busy.
    busy_at: Annotated[float, msgspec.Meta(gt=0, le=1_000)] = 1.0
    #: And from here on it sheds.
    shed_at: Annotated[float, msgspec.Meta(gt=0, le=1_000)] = 2.0
    #: Every look of so long must ask for a higher level.
    rise_ms: _MsOrNone = 1_000
    #: And for a lower one, below three quarters of its mark.
    fall_ms: _MsOrNone = 5_000
    #: Least time between two changes of a level.
    residency_ms: _MsOrNone = 5_000
    #: An engine may hold so much more than its budget.
    overrun_margin_mb: _Mb = 256
    #: More than that for so long, and it sheds and is asked for room.
    overrun_ms: _MsOrNone = 5_000

    #: Least time between two restarts of one backend that is sick, whoever asks for them.
    restart_pause_ms: _Ms = 120_000

    #: How long the arbiter still answers after it stopped being ready.
    settle_ms: _MsOrNone = 0
    #: Time for answers under way when the arbiter stops.
    drain_ms: _Ms = 2_000

    def shed_rule(self) -> ShedRule:
        """Return when a backend's pressure rises and falls."""
        return ShedRule(
            busy_at=self.busy_at,
            shed_at=self.shed_at,
            rise_s=self.rise_ms / 1000,
            fall_s=self.fall_ms / 1000,
            residency_s=self.residency_ms / 1000,
        )

    def terms(self) -> Terms:
        """Return the numbers in the units that the code reckons in."""
        return Terms(
            rule=Rule(self.cap_share, self.margin_mb),
            stale_s=self.stale_ms / 1000,
            max_leases=self.max_leases,
            max_waiting=self.max_waiting,
            ageing_s=self.ageing_ms / 1000,
            min_residency_s=self.min_residency_ms / 1000,
            grace_s=self.grace_ms / 1000,
            make_room_s=self.make_room_ms / 1000,
            reclaim_s=self.reclaim_ms / 1000,
            residue_mb=self.residue_mb,
            restart_grace_s=self.restart_grace_ms / 1000,
            startup_s=self.startup_ms / 1000,
        )
