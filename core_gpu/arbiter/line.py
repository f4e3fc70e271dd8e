"""The waiting line: who is served next, and whose memory is taken for it.

Whoever waits is served in the queue's order; one that cannot be served yet keeps the GPUs that it could use from all
behind it, or large requests would wait for ever. Waiting raises a request in this line and nowhere else: a lease may
only be pre-empted by a request of strictly higher base priority.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from core_gpu.arbiter import allocator
from core_gpu.arbiter.allocator import Placement, Victim, cheapest, room_mb
from core_gpu.arbiter.books import Books
from core_gpu.arbiter.lease import Ask, Granted, Lease, Reason, Refused
from core_gpu.arbiter.ledger import LedgerError
from core_gpu.arbiter.memory import Account
from core_gpu.arbiter.states import LeaseState
from streamkit.flow.clock import Clock
from streamkit.flow.queue import PriorityQueue

__all__ = ["Line", "MakeRoom", "Waiter"]


class MakeRoom(Protocol):
    """Asks the engine that holds a lease for room; it returns at once and works on its own."""

    def __call__(self, lease: Lease, mb: int) -> bool:
        """Begin, and say whether there is anybody to ask.

        Args:
            lease: whose engine; its notice ran out.
            mb: MiB that are needed on its GPU.
        """
        ...


@dataclass(slots=True, eq=False)
class Waiter:
    """A request in the line.

    Args:
        ask: what for.
        deadline_s: when it gives up, in monotonic seconds.
        resolve: called with the answer, once.
    """

    ask: Ask
    deadline_s: float
    resolve: Callable[[Granted | Refused], None]
    place: tuple[int, int] = (0, 0)
    #: The last reason why it could not be served.
    refused: Refused | None = None
    #: Where memory is being freed for it, and from whom.
    earmark: str = ""
    victims: dict[str, Lease] = field(default_factory=dict)


class Line:
    """Serves requests from the books.

    Args:
        books: what there is.
        frozen: says who holds a GPU's start-up barrier; empty = nobody.
        clock: monotonic seconds.
    """

    def __init__(self, books: Books, frozen: Callable[[str], str], clock: Clock) -> None:
        self._books = books
        self._frozen = frozen
        self._queue: PriorityQueue[Waiter] = PriorityQueue(
            books.terms.max_waiting, ageing_ms=int(books.terms.ageing_s * 1000), clock=clock
        )
        self._owed: list[Waiter] = []
        self.make_room: MakeRoom | None = None

    def __len__(self) -> int:
        return len(self._queue)

    def push(self, waiter: Waiter) -> None:
        """Put a request into the line.

        Raises:
            QueueFull: as many wait already as may.
        """
        waiter.place = self._queue.push(waiter, waiter.ask.priority)

    def leave(self, waiter: Waiter, now: float) -> None:
        """Take a request out of the line; what was to be freed for it is left to its holders."""
        self._queue.remove(waiter.place)
        self._disown(waiter)
        for lease in waiter.victims.values():
            self._books.withdraw(lease, now)
        waiter.victims.clear()

    def serve(
        self, ask: Ask, now: float, waiter: Waiter | None = None, taken: set[str] | None = None
    ) -> Granted | Refused:
        """Grant a request, or say why not.

        Args:
            ask: the request.
            now: monotonic seconds.
            waiter: the request's place in the line, if it has one.
            taken: GPUs that somebody before it waits for.
        """
        books = self._books
        eligible = books.gpus(ask.gpu)
        if not eligible:
            return Refused(
                Reason.UNKNOWN_GPU, f"gpu: there is no {ask.gpu!r} here; ListLeases and GetState name them"
            )
        holder = books.groups.get(ask.exclusive_group) if ask.exclusive_group else None
        if holder is not None:
            return Refused(
                Reason.GROUP_HELD,
                f"exclusive_group: {ask.exclusive_group} is held by {holder.holder}",
                self._retry_ms(holder, now), 0, ask.mb, holder.holder,
            )  # fmt: skip
        views = {account.device.id: self.view(account, now, waiter) for account in eligible}
        free = [view for view in views.values() if taken is None or view.id not in taken]
        found = allocator.place(free, ask.mb, books.terms.rule)
        if isinstance(found, Placement):
            try:
                return Granted(books.grant(ask, books.accounts[found.gpu.id], now))
            except LedgerError as error:
                return Refused(Reason.LEDGER, str(error), self._retry_ms(None, now), found.left_mb, ask.mb)
        return self._refusal(ask, eligible, list(views.values()), found, now)

    def pump(self, now: float) -> None:
        """Serve whoever can be served, in order, and begin pre-emptions for who cannot."""
        if not len(self._queue):
            return
        taken: set[str] = set()
        served: list[tuple[Waiter, Granted | Refused]] = []
        blocked: list[Waiter] = []
        for waiter in self._queue.ordered():
            answer = self.serve(waiter.ask, now, waiter, taken)
            if isinstance(answer, Granted) or answer.code in (Reason.LEDGER, Reason.NEVER_FITS):
                served.append((waiter, answer))
                continue
            waiter.refused = answer
            if answer.code is Reason.GROUP_HELD:
                continue
            wanted = {account.device.id for account in self._books.gpus(waiter.ask.gpu)}
            if not wanted <= taken:
                blocked.append(waiter)
            taken |= wanted
            if len(taken) == len(self._books.accounts):
                break
        for waiter, answer in served:
            self._queue.remove(waiter.place)
            self._disown(waiter)
            waiter.victims.clear()
            waiter.resolve(answer)
        for waiter in blocked:
            self._preempt(waiter, now)

    def time_out(self, now: float) -> None:
        """Refuse those whose time is over."""
        for waiter in [waiter for waiter in self._queue.ordered() if waiter.deadline_s <= now]:
            self.leave(waiter, now)
            last = waiter.refused
            reason = last.reason if last is not None else "others were before it in the line"
            waiter.resolve(
                Refused(
                    Reason.TIMEOUT, f"waited {waiter.ask.wait_s:g} s: {reason}", self._retry_ms(None, now),
                    last.free_mb if last else 0, waiter.ask.mb, last.holder if last else "",
                )
            )  # fmt: skip

    def empty(self, answer: Refused, now: float) -> None:
        """Refuse everybody: the arbiter goes away."""
        for waiter in list(self._queue.ordered()):
            self.leave(waiter, now)
            waiter.resolve(answer)

    def press(self, now: float) -> None:
        """Go on with notices that ran out: ask the engine for room, then fence. Nothing of that during a start-up."""
        for lease in [lease for lease in self._books.closing.values() if lease.state is LeaseState.NOTICED]:
            if now < lease.due_s or self._frozen(lease.gpu):
                continue
            if not lease.asked_room and self.make_room is not None and self.make_room(lease, lease.reserved_mb):
                lease.asked_room = True
                lease.due_s = now + self._books.terms.make_room_s
            else:
                self._books.fence(lease, now)

    def view(self, account: Account, now: float, waiter: Waiter | None = None) -> allocator.Gpu:
        """Return a GPU as `waiter` may see it: what is freed for others is taken."""
        owed = 0
        for other in self._owed:
            if other is not waiter and other.earmark == account.device.id:
                held = sum(account.frees_mb(lease) for lease in other.victims.values() if lease.id in account.leases)
                owed += max(0, other.ask.mb - held)
        is_open = self._books.fresh(account, now) and not self._frozen(account.device.id)
        return account.view(earmarked_mb=owed, is_open=is_open)

    def free_mb(self, account: Account, now: float) -> int:
        """Return the largest request that a GPU would be granted now."""
        view = self.view(account, now)
        return max(0, room_mb(view, self._books.terms.rule)) if view.open else 0

    def _preempt(self, waiter: Waiter, now: float) -> None:
        """Ask the cheapest holders of lower priority for what a request lacks, on the GPU where that costs least."""
        books = self._books
        if waiter.earmark:
            if any(lease.id in books.leases for lease in waiter.victims.values()):
                return
            self._disown(waiter)
            waiter.victims.clear()
        best: tuple[tuple[int, int, int], Account, tuple[Victim, ...]] | None = None
        for account in books.gpus(waiter.ask.gpu):
            view = self.view(account, now, waiter)
            if not view.open or waiter.ask.mb + books.terms.rule.margin_mb > books.terms.rule.cap_mb(view.total_mb):
                continue
            coming = sum(
                account.frees_mb(lease) for lease in books.busy(account) if lease.state is LeaseState.RELEASING
            )
            lacking = waiter.ask.mb - room_mb(view, books.terms.rule) - coming
            victims = cheapest(self._candidates(account, waiter.ask.priority, now), lacking)
            if victims:
                cost = (
                    -min(victim.priority for victim in victims),
                    sum(victim.frees_mb for victim in victims),
                    account.device.index,
                )
                if best is None or cost < best[0]:
                    best = (cost, account, victims)
        if best is None:
            return
        _, account, victims = best
        waiter.earmark = account.device.id
        waiter.victims = {victim.id: books.leases[victim.id] for victim in victims}
        self._owed.append(waiter)
        reason = f"{waiter.ask.client} needs {waiter.ask.mb} MiB at priority {waiter.ask.priority}"
        for lease in waiter.victims.values():
            books.notice(lease, reason, now)

    def _candidates(self, account: Account, priority: int, now: float) -> list[Victim]:
        youngest = now - self._books.terms.min_residency_s
        return [
            Victim(lease.id, lease.priority, account.frees_mb(lease))
            for lease in account.leases.values()
            if lease.preemptible
            and lease.state is LeaseState.GRANTED
            and lease.priority > priority
            and lease.granted_s <= youngest
        ]

    def _disown(self, waiter: Waiter) -> None:
        if waiter.earmark:
            self._owed.remove(waiter)
            waiter.earmark = ""

    def _refusal(
        self, ask: Ask, eligible: list[Account], views: list[allocator.Gpu], found: allocator.Refusal, now: float
    ) -> Refused:
        """Say why a request goes nowhere, most useful reason first."""
        rule = self._books.terms.rule
        most = max(rule.cap_mb(view.total_mb) - rule.margin_mb for view in views)
        if ask.mb > most:
            return Refused(
                Reason.NEVER_FITS,
                f"vram_estimate_mb: {ask.mb} MiB fit on no GPU asked for; the most that one could give is {most} MiB",
                0, found.free_mb, ask.mb,
            )  # fmt: skip
        account = max(eligible, key=lambda account: room_mb(self.view(account, now), rule))
        if all(not view.open for view in views):
            if starting := next((name for view in views if (name := self._frozen(view.id))), ""):
                reason = (
                    f"{starting} is starting on the GPU: nothing is granted there until it has measured its memory"
                )
                return Refused(Reason.FROZEN, reason, self._retry_ms(None, now), 0, ask.mb, starting)
            reason = f"the GPU's memory was not measured within {self._books.terms.stale_s * 1000:.0f} ms"
            return Refused(Reason.STALE_INVENTORY, reason, self._retry_ms(None, now), 0, ask.mb)
        largest = account.largest()
        holder = largest.holder if largest is not None else "processes without a lease" if account.used_mb else ""
        free = max((max(0, room_mb(view, rule)) for view in views if view.open), default=0)
        reason = f"Insufficient VRAM: {ask.mb} MiB asked for, {free} MiB free"
        if free >= ask.mb:
            reason = f"{ask.mb} MiB would fit, but somebody before it in the line waits for that GPU"
        elif holder:
            reason += f"; most is held by {holder}"
        return Refused(Reason.INSUFFICIENT, reason, self._retry_ms(largest, now), free, ask.mb, holder)

    def _retry_ms(self, lease: Lease | None, now: float) -> int:
        """Return when to ask again: soon, or when the lease in the way expires if that is sooner."""
        wait_s = self._books.terms.retry_s
        if lease is not None:
            wait_s = min(wait_s, max(0.01, lease.expires_s - now))
        return max(1, round(wait_s * 1000))
