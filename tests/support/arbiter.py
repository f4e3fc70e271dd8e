"""A real arbiter process for tests, and the stub to talk to it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc

from streamkit.wire.pb import modelops_pb2 as pb
from streamkit.wire.pb.modelops_pb2_grpc import ModelOpsStub
from tests.support.processes import Running, launch

__all__ = ["ArbiterProcess", "arbiter"]


@dataclass
class ArbiterProcess:
    """A running arbiter."""

    running: Running
    ready: dict[str, Any]
    channel: grpc.Channel

    @property
    def address(self) -> str:
        """What a gRPC channel takes."""
        return str(self.ready["url"]).removeprefix("grpc://")

    @property
    def stub(self) -> ModelOpsStub:
        """Synchronous calls."""
        return ModelOpsStub(self.channel)

    def acquire(self, mb: int, **fields: Any) -> pb.GpuLeaseReply:
        """Ask for a lease."""
        request = pb.GpuLeaseRequest(**{"client": "test", "model_name": "m", "vram_estimate_mb": mb, **fields})
        return self.stub.AcquireGpuLease(request, timeout=30)

    def release(self, lease_id: str) -> bool:
        """Give a lease back."""
        return self.stub.ReleaseGpuLease(pb.GpuLeaseRelease(lease_id=lease_id), timeout=10).success

    def leases(self) -> list[pb.Lease]:
        """List what is held."""
        return list(self.stub.ListLeases(pb.ListLeasesRequest(), timeout=10).leases)

    def state(self) -> pb.ArbiterState:
        """Return the state of all GPUs."""
        return self.stub.GetState(pb.GetStateRequest(), timeout=10)


@contextlib.contextmanager
def arbiter(folder: Path, settings: str = "", *, name: str = "arbiter", port: int = 0) -> Iterator[ArbiterProcess]:
    """Run `headrace arbiter` on a static inventory for the length of the block.

    Args:
        folder: for its ledger and its log; a second one there takes over the ledger.
        settings: lines of the `[arbiter]` table.
        name: of its log.
        port: 0 = a free one.
    """
    file = folder / "arbiter.toml"
    if "inventory" not in settings:
        settings += '\ninventory = "static"'
    file.write_text(f'[arbiter]\nstate_dir = "{folder / "state"}"\n{settings}\n')
    options = ["--config", str(file), "--port", str(port), "--ops-port", "0"]
    with launch("arbiter", *options, folder=folder, name=name) as running:
        ready = running.ready()
        # A connection of its own: others to this address may be waiting to connect again.
        own = [("grpc.use_local_subchannel_pool", 1)]
        with grpc.insecure_channel(str(ready["url"]).removeprefix("grpc://"), options=own) as channel:
            yield ArbiterProcess(running, ready, channel)
