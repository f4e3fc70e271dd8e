"""The client and the messages of the original blueprint, word for word, against the arbiter."""

from __future__ import annotations

import importlib
import subprocess
import sys
import types
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.arbiter import ArbiterProcess, arbiter

PROTO = """\
syntax = "proto3";
package modelops;

service ModelOps {
  // Existing endpoints …
  rpc AcquireGpuLease (GpuLeaseRequest)  returns (GpuLeaseReply);
  rpc ReleaseGpuLease (GpuLeaseRelease)  returns (GpuLeaseReleaseAck);
}

message GpuLeaseRequest  {
  string client            = 1;
  string model_name        = 2;
  int64  vram_estimate_mb  = 3;
  int32  priority          = 4;   // 1-highest
  int32  ttl_seconds       = 5;
}

message GpuLeaseReply {
  bool   granted           = 1;
  string lease_id          = 2;
  int64  vram_reserved_mb  = 3;
  string reason            = 4;
  int32  retry_after_ms    = 5;
}

message GpuLeaseRelease   { string lease_id = 1; }
message GpuLeaseReleaseAck{ bool   success  = 1; }
"""
CLIENT = """\
# gpu_lease_client.py
import grpc, time, model_ops_pb2 as pb2, model_ops_pb2_grpc as pb2_grpc

class GpuLeaseClient:
    def __init__(self, addr="mainpc:50051"):
        self.stub = pb2_grpc.ModelOpsStub(grpc.insecure_channel(addr))
        self.lease_id = None

    def acquire(self, client, model, mb, prio=2, ttl=30):
        backoff = 0.25
        for _ in range(6):
            rep = self.stub.AcquireGpuLease(pb2.GpuLeaseRequest(
                client=client, model_name=model, vram_estimate_mb=mb,
                priority=prio, ttl_seconds=ttl))
            if rep.granted:
                self.lease_id = rep.lease_id
                return True
            time.sleep(backoff); backoff = min(backoff*2, 2.0)
        return False

    def release(self):
        if self.lease_id:
            self.stub.ReleaseGpuLease(pb2.GpuLeaseRelease(lease_id=self.lease_id))
            self.lease_id = None
"""
#: The original runs in a process of its own: its messages have the names of ours, and a process knows each name once.
PROGRAM = """
import sys, time
import gpu_lease_client
slept = []
time.sleep = slept.append
address = sys.argv[1]
first = gpu_lease_client.GpuLeaseClient(address)
assert first.acquire("agent", "llm", 20_000)
lease = first.lease_id
second = gpu_lease_client.GpuLeaseClient(address)
assert not second.acquire("agent-2", "llm", 20_000)
assert slept == [0.25, 0.5, 1.0, 2.0, 2.0, 2.0], slept
first.release()
assert first.lease_id is None
first.release()
assert second.acquire("agent-2", "llm", 20_000, prio=1, ttl=30)
print(lease, second.lease_id)
"""


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ArbiterProcess]:
    with arbiter(tmp_path_factory.mktemp("arbiter")) as process:
        yield process


@pytest.fixture(scope="module")
def theirs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("theirs")
    (folder / "model_ops.proto").write_text(PROTO)
    (folder / "gpu_lease_client.py").write_text(CLIENT)
    line = [
        sys.executable,
        "-m",
        "grpc_tools.protoc",
        "-I.",
        "--python_out=.",
        "--grpc_python_out=.",
        "model_ops.proto",
    ]
    subprocess.run(line, cwd=folder, check=True)
    return folder


def test_it_works_unchanged(ours: ArbiterProcess, theirs: Path):
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, ours.address],
        cwd=theirs,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    _, second = done.stdout.split()
    (held,) = ours.leases()
    assert (held.lease_id, held.client, held.priority) == (second, "agent-2", 1)
    assert 0 < held.expires_in_ms <= 30_000
    assert not held.preemptible


def test_our_messages_contain_theirs(theirs: Path):
    """Same names, numbers and types: what they send we read, and the other way round."""
    program = """
import model_ops_pb2 as pb2
for message in pb2.DESCRIPTOR.message_types_by_name.values():
    for field in message.fields:
        print(message.full_name, field.name, field.number, field.type, field.is_repeated)
for service in pb2.DESCRIPTOR.services_by_name.values():
    for method in service.methods:
        print(service.full_name, method.name, method.input_type.full_name, method.output_type.full_name)
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=theirs, capture_output=True, text=True, check=True)
    ours = _described(importlib.import_module("streamkit.wire.pb.modelops_pb2"))
    assert set(done.stdout.splitlines()) <= ours


def _described(pb: types.ModuleType) -> set[str]:
    lines = set()
    for message in pb.DESCRIPTOR.message_types_by_name.values():
        for field in message.fields:
            lines.add(f"{message.full_name} {field.name} {field.number} {field.type} {field.is_repeated}")
    for service in pb.DESCRIPTOR.services_by_name.values():
        for method in service.methods:
            lines.add(
                f"{service.full_name} {method.name} {method.input_type.full_name} {method.output_type.full_name}"
            )
    return lines
