"""What a lease is, what is asked for, and what is answered: the words of the arbiter."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from core_gpu.arbiter.states import LeaseState

__all__ = ["Ask", "Granted", "Happening", "Lease", "Reason", "Refused"]


class Reason(enum.IntEnum):
    """Why something was refused. The values are those of the wire's `Refusal`."""

    NONE = 0
    INSUFFICIENT = 1
    NEVER_FITS = 2
    INVALID = 3
    UNKNOWN_GPU = 4
    STALE_INVENTORY = 5
    FROZEN = 6
    GROUP_HELD = 7
    TIMEOUT = 8
    QUEUE_FULL = 9
    LEDGER = 10
    DRAINING = 11
    UNKNOWN_LEASE = 12
    ENDED = 13
    FENCED = 14
    RECLAIMING = 15
    TOO_MANY = 16


@dataclass(frozen=True, slots=True)
class Ask:
    """A request for a lease, in range: `core_gpu.arbiter.bounds` has looked at it.

    Args:
        client: who asks; shown to people.
        model: what for; shown to people.
        mb: MiB.
        priority: 1 (highest) to 9.
        ttl_s: how long without a renewal.
        wait_s: how long it may wait in the queue; 0 = not at all.
        exclusive_group: at most one lease of it is held at a time; empty = none.
        preemptible: its holder watches it, and gives it up when noticed.
        pids: the holder's processes.
        gpu: UUID or index; empty = any.
    """

    client: str
    model: str
    mb: int
    priority: int = 2
    ttl_s: float = 30.0
    wait_s: float = 0.0
    exclusive_group: str = ""
    preemptible: bool = False
    pids: frozenset[int] = frozenset()
    gpu: str = ""


@dataclass(slots=True, eq=False)
class Lease:
    """A lease in the books, which only `core_gpu.arbiter.books` changes. Times are monotonic seconds."""

    id: str
    client: str
    model: str
    gpu: str
    reserved_mb: int
    priority: int
    ttl_s: float
    expires_s: float
    granted_s: float
    exclusive_group: str = ""
    preemptible: bool = False
    pids: frozenset[int] = frozenset()
    loaded: bool = False
    state: LeaseState = LeaseState.GRANTED
    #: Since when it is in this state.
    since_s: float = 0.0
    #: Why it is in this state: a sentence, or empty. Not in the ledger.
    why: str = ""
    #: When the next thing happens to it without its holder: fenced, written off.
    due_s: float = 0.0
    #: The adapter of its engine was asked to make room.
    asked_room: bool = False

    @property
    def holder(self) -> str:
        """Who has it, for people."""
        return f"{self.client}/{self.model}" if self.model else self.client


@dataclass(frozen=True, slots=True)
class Granted:
    """The answer yes."""

    lease: Lease


@dataclass(frozen=True, slots=True)
class Refused:
    """The answer no, for machines and for people.

    Args:
        code: why.
        reason: a sentence.
        retry_after_ms: when to ask again; 0 = asking again is useless.
        free_mb: the largest request that would be granted now.
        needed_mb: what was asked for.
        holder: who holds most of what is missing.
    """

    code: Reason
    reason: str
    retry_after_ms: int = 0
    free_mb: int = 0
    needed_mb: int = 0
    holder: str = ""


@dataclass(frozen=True, slots=True)
class Happening:
    """Something that happened to a lease.

    Args:
        name: `granted`, `loaded`, or what the state table calls it: `notice`, `fence`, `expire` …
        lease: whose; it may have gone on since.
        state: what it became.
        reason: a sentence, or empty.
        sequence: rises within one life of the arbiter.
    """

    name: str
    lease: Lease
    state: LeaseState
    reason: str
    sequence: int
