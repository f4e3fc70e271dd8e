"""Who is asking, and with which rights: keys from control's snapshot, checked by the edge itself (law 1)."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from edge.transports.http import Scope, header
from streamkit.wire.errors import Code, HeadraceError
from streamkit.wire.keys import KeySnapshot, Tenant, digest
from streamkit.wire.state import CACHE_MS

__all__ = ["Access", "Caller"]

_DEFAULT_PRIORITY = 5


class Caller(msgspec.Struct, frozen=True):
    """An authenticated client."""

    tenant: Tenant
    #: Id of its key; empty where no key is needed.
    key_id: str
    #: 1 (highest) to 9, within the tenant's bound.
    priority: int


class Access:
    """Checks `Authorization: Bearer` against the newest key snapshot.

    Args:
        age_ms: milliseconds since control was last heard; None = never.
    """

    def __init__(self, age_ms: Callable[[], float | None]) -> None:
        self._age_ms = age_ms
        #: None = never had one; then nobody can be judged, and everybody is refused (design §5).
        self._snapshot: KeySnapshot | None = None
        self._tenants: dict[str, Tenant] = {}
        self._keys: dict[str, tuple[str, str]] = {}
        self._anyone = Tenant(name="default")

    def update(self, snapshot: KeySnapshot) -> None:
        """Use a newer snapshot: a key that it lacks is refused from now on."""
        if snapshot == self._snapshot:
            return
        self._snapshot = snapshot
        self._tenants = {tenant.name: tenant for tenant in snapshot.tenants}
        self._keys = {record.sha256: (record.id, record.tenant) for record in snapshot.keys}

    def check(self, scope: Scope) -> Caller:
        """Return who is asking.

        Raises:
            HeadraceError: UNAUTHORIZED, INVALID_REQUEST for a bad priority, or NO_ROUTE before the first
                snapshot and ten minutes after the last.
        """
        if self._snapshot is None:
            text = "The control plane has not answered yet, so keys cannot be checked. Try again shortly."
            raise HeadraceError(Code.NO_ROUTE, text)
        if not self._snapshot.required:
            return Caller(self._anyone, "", _priority(scope, self._anyone))
        if (self._age_ms() or 0) > CACHE_MS:
            # A key may have been revoked long ago (the staleness table of design §5).
            text = "The control plane has been silent for too long to go on trusting keys. Try again shortly."
            raise HeadraceError(Code.NO_ROUTE, text)
        scheme, _, key = header(scope, b"authorization").partition(b" ")
        if scheme.lower() != b"bearer" or not key:
            text = "This gateway needs a key: send `Authorization: Bearer hr-…` (headrace keys create makes one)."
            raise HeadraceError(Code.UNAUTHORIZED, text)
        found = self._keys.get(digest(key.strip().decode("latin-1")))
        if found is None:
            raise HeadraceError(Code.UNAUTHORIZED, "This key is not known here, or was revoked.")
        key_id, name = found
        tenant = self._tenants.get(name) or Tenant(name=name)
        return Caller(tenant, key_id, _priority(scope, tenant))


def _priority(scope: Scope, tenant: Tenant) -> int:
    """Return `X-Headrace-Priority`, clamped to what the tenant may claim."""
    asked = header(scope, b"x-headrace-priority")
    if not asked:
        return max(_DEFAULT_PRIORITY, tenant.max_priority)
    if asked not in (b"1", b"2", b"3", b"4", b"5", b"6", b"7", b"8", b"9"):
        text = "`X-Headrace-Priority` must be a digit from 1 (highest) to 9."
        raise HeadraceError(Code.INVALID_REQUEST, text, param="X-Headrace-Priority")
    return max(int(asked), tenant.max_priority)
