"""`modelops.ModelOps` with nothing behind it: what gRPC itself costs for the arbiter's own messages.

python -m loadtest.lease.echo READY_FILE
"""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from typing import Final

from grpc import aio

from streamkit.ops.server import run, write_ready_file
from streamkit.wire.pb import modelops_pb2 as pb
from streamkit.wire.pb import modelops_pb2_grpc

__all__ = ["Echo"]

_ID: Final = "0" * 40


class Echo(modelops_pb2_grpc.ModelOpsServicer):
    """Grants everything at once and remembers nothing."""

    async def AcquireGpuLease(self, request: pb.GpuLeaseRequest, context: object) -> pb.GpuLeaseReply:  # noqa: N802
        """Grant."""
        return pb.GpuLeaseReply(granted=True, lease_id=_ID)

    async def ReleaseGpuLease(self, request: pb.GpuLeaseRelease, context: object) -> pb.GpuLeaseReleaseAck:  # noqa: N802
        """Take back."""
        return pb.GpuLeaseReleaseAck(success=True)

    async def WatchLease(self, request: pb.WatchLeaseRequest, context: object) -> AsyncIterator[pb.LeaseEvent]:  # noqa: N802
        """Tell once, and end."""
        yield pb.LeaseEvent(lease_id=request.lease_id)


async def _serve(ready: str) -> None:
    server = aio.server()
    modelops_pb2_grpc.add_ModelOpsServicer_to_server(Echo(), server)  # type: ignore[abstract]  # the other calls are not made
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    write_ready_file(ready, {"url": f"grpc://127.0.0.1:{port}"})
    await server.wait_for_termination()


if __name__ == "__main__":
    run(lambda: _serve(sys.argv[1]))
