"""Leases for whoever uses a GPU: they renew themselves, heed notices, and are tried smaller when memory ends."""

from core_gpu.lease_client.aio import AsyncLease, AsyncLeaseClient
from core_gpu.lease_client.oom import is_out_of_memory, run_leased, run_leased_async, steps
from core_gpu.lease_client.sync import Lease, LeaseClient
from core_gpu.lease_client.words import ClientTls, LeaseAsk, LeaseError, LeaseRefused, Notice

__all__ = [
    "AsyncLease",
    "AsyncLeaseClient",
    "ClientTls",
    "Lease",
    "LeaseAsk",
    "LeaseClient",
    "LeaseError",
    "LeaseRefused",
    "Notice",
    "is_out_of_memory",
    "run_leased",
    "run_leased_async",
    "steps",
]
