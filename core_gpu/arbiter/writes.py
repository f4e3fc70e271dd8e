"""Changes of leases on their way into the ledger: what it cannot take is remembered and tried again.

Only grants must be written before they are answered. A release, a renewal or a fence that a full disk keeps out is in
force at once, and a restart before it is written is on the safe side: a released lease comes back and expires.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from core_gpu.arbiter.lease import Lease
from core_gpu.arbiter.ledger import Ledger, LedgerError
from core_gpu.arbiter.states import LeaseState
from streamkit.ops import log

__all__ = ["Writes"]

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class Writes:
    """Writes leases, now or later.

    Args:
        ledger: where to.
    """

    ledger: Ledger
    _unwritten: set[str] = field(default_factory=set)
    _failing: bool = False

    def keep(self, lease: Lease) -> bool:
        """Write a lease as it is; False = later."""
        if lease.state is LeaseState.RELEASING:
            return self.forget(lease.id)
        return self._try(lambda: self.ledger.put(lease), lease.id)

    def forget(self, lease_id: str) -> bool:
        """Take a lease out; False = later."""
        return self._try(lambda: self.ledger.remove(lease_id), lease_id)

    def later(self, lease_id: str) -> None:
        """Leave a lease to `retry`."""
        self._unwritten.add(lease_id)

    def retry(self, leases: Mapping[str, Lease]) -> None:
        """Write what could not be written before, as far as it goes.

        Args:
            leases: those that are there, by id; any other is taken out.
        """
        for lease_id in list(self._unwritten):
            self._unwritten.discard(lease_id)
            lease = leases.get(lease_id)
            if not (self.forget(lease_id) if lease is None else self.keep(lease)):
                return

    def _try(self, write: Callable[[], None], lease_id: str) -> bool:
        try:
            write()
        except LedgerError as error:
            if not self._failing:
                log.event(_log, "ledger.failed", level=logging.ERROR, reason=str(error))
            self._failing = True
            self._unwritten.add(lease_id)
            return False
        if self._failing:
            log.event(_log, "ledger.recovered")
            self._failing = False
        return True
