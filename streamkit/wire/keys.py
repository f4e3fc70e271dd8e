"""Keys and tenants as control pushes them to edges, which then authenticate by themselves.

A key is 256 random bits shown once as `hr-<64 hex digits>`; only its SHA-256 is stored or sent.
"""

from __future__ import annotations

import hashlib
import secrets

import msgspec

__all__ = ["CLIENT_TOKENS", "STREAM_IDS", "KeyRecord", "KeySnapshot", "Tenant", "digest", "new_key", "new_key_id"]

PREFIX = "hr-"
#: Names of secrets that control keeps and every edge gets: what signs client tokens, what authenticates stream ids.
CLIENT_TOKENS = "client-tokens"
STREAM_IDS = "stream-ids"


class Tenant(msgspec.Struct, frozen=True, kw_only=True):
    """Limits of one tenant; 0 means no limit. Rates are divided by the number of live edges."""

    name: str
    tenant_class: str = "default"
    #: The highest priority that its requests may claim (1 = highest).
    max_priority: int = 1
    requests_per_minute: int = 0
    tokens_per_minute: int = 0
    max_streams: int = 0
    #: Budgets, by the UTC calendar.
    tokens_per_day: int = 0
    tokens_per_month: int = 0
    #: Its keys may probe backends, whatever control thinks of them.
    operator: bool = False


class KeyRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One key that is valid now; a revoked key is simply absent from the next snapshot."""

    id: str
    sha256: str
    tenant: str
    #: The key's own budgets, beside its tenant's; 0 = none.
    tokens_per_day: int = 0
    tokens_per_month: int = 0


class KeySnapshot(msgspec.Struct, frozen=True, kw_only=True):
    """All valid keys. `version` rises with every change."""

    version: int = 0
    #: False on a loopback installation without keys: everybody is the tenant `default`.
    required: bool = False
    keys: tuple[KeyRecord, ...] = ()
    tenants: tuple[Tenant, ...] = ()
    #: Shared by all edges and outliving them: 32 bytes in hex, by name.
    secrets: dict[str, str] = {}


def new_key() -> str:
    """Return a new key: 256 random bits in hex, behind `hr-`."""
    return PREFIX + secrets.token_hex(32)


def new_key_id() -> str:
    """Return a name for a new key, safe to show and to log."""
    return "k-" + secrets.token_hex(6)


def digest(key: str) -> str:
    """Return the SHA-256 of a key, in hex, as it is stored."""
    return hashlib.sha256(key.encode()).hexdigest()
