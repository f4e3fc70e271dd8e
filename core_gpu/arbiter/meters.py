"""The arbiter's figures: counted as they happen, or read at a scrape."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from core_gpu.arbiter.arbiter import Arbiter
from core_gpu.arbiter.lease import Happening, Reason
from core_gpu.arbiter.memory import Account
from core_gpu.arbiter.states import LeaseState
from streamkit.ops import catalog
from streamkit.ops.metrics import Counter, Metrics

__all__ = ["Meters", "watch"]

Rows = Iterable[tuple[tuple[str, ...], float]]


class Meters:
    """What the service counts.

    Args:
        metrics: where to.
    """

    def __init__(self, metrics: Metrics) -> None:
        self._granted = metrics.counter(catalog.LEASES_GRANTED)
        self._handshake = metrics.histogram(catalog.LEASE_HANDSHAKE)
        self._refused: dict[Reason, Counter] = {
            reason: metrics.counter(catalog.LEASES_REFUSED, reason.name.lower()) for reason in Reason if reason
        }
        self._happened = {
            name: metrics.counter(catalog.LEASE_EVENTS, name.replace(" ", "_"))
            for name in ("release", "notice", "withdraw", "fence", "expire", "back", "write off")
        }

    def granted(self, seconds: float) -> None:
        """Count a grant, and how long its request was here."""
        self._granted.value += 1
        self._handshake.observe(seconds)

    def refused(self, reason: Reason) -> None:
        """Count a refusal."""
        self._refused[reason].value += 1

    def happened(self, happening: Happening) -> None:
        """Count what happened to a lease; a hook of the books."""
        counter = self._happened.get(happening.name)
        if counter is not None:
            counter.value += 1


def watch(metrics: Metrics, arbiter: Arbiter, log_bytes: Callable[[], int]) -> None:
    """Show what the arbiter has and lends."""
    books = arbiter.books

    def states() -> Rows:
        counts = {state: 0 for state in LeaseState if not state.ended}
        for lease in books.closing.values():
            counts[lease.state] += 1
        counts[LeaseState.GRANTED] = len(books.leases) - len(books.closing)
        return [((state.name.lower(),), float(count)) for state, count in counts.items()]

    def each(read: Callable[[Account], float]) -> Callable[[], Rows]:
        return lambda: [((str(account.device.index),), float(read(account))) for account in books.accounts.values()]

    def memory() -> Rows:
        for account in books.accounts.values():
            gpu = str(account.device.index)
            figures = {
                "total": account.device.total_mb,
                "used": account.used_mb,
                "reserved": account.reserved_mb,
                "pending": account.pending_mb,
                "unleased": account.unleased_mb,
                "free": arbiter.line.free_mb(account, arbiter.clock()),
            }
            for what, mb in figures.items():
                yield (gpu, what), float(mb * 1024 * 1024)

    def age(account: Account) -> float:
        if not books.measures:
            return 0.0
        return -1.0 if account.taken_s is None else arbiter.clock() - account.taken_s

    metrics.watch(catalog.LEASES_HELD, states)
    metrics.watch(catalog.LEASES_WAITING, lambda: [((), float(len(arbiter.line)))])
    metrics.watch(catalog.GPU_MEMORY, memory)
    metrics.watch(catalog.GPU_SNAPSHOT_AGE, each(age))
    metrics.watch(catalog.LEDGER_LOG, lambda: [((), float(log_bytes()))])
