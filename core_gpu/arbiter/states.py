"""The states of a lease as a table; the docs' diagram is drawn from it, and every change of state goes through it."""

from __future__ import annotations

import enum
from typing import Final

__all__ = ["TABLE", "ImpossibleError", "LeaseEvent", "LeaseState", "next_state"]


class ImpossibleError(Exception):
    """Our own bug: an event that cannot happen in this state."""


class LeaseState(enum.Enum):
    """Where a lease stands. The values are those of the wire's `LeaseState`."""

    GRANTED = 1  #: its holder may use the memory
    NOTICED = 2  #: as before, but its holder was asked to give it up
    FENCED = 3  #: its holder ignored the notice: it is no longer honoured, its memory is not back
    RECLAIMING = 4  #: expired; its processes may still hold memory
    RELEASING = 5  #: given back, and not yet seen in a measurement
    RELEASED = 6  #: given back
    RECLAIMED = 7  #: expired or fenced, and its processes let go
    UNLEASED = 8  #: written off: what its processes still hold belongs to no lease

    @property
    def ended(self) -> bool:
        """No event leads out of this state, and nothing is reserved any more."""
        return self in _ENDED

    @property
    def held(self) -> bool:
        """Its holder may use the memory."""
        return self in _HELD


_ENDED: Final = frozenset({LeaseState.RELEASED, LeaseState.RECLAIMED, LeaseState.UNLEASED})
_HELD: Final = frozenset({LeaseState.GRANTED, LeaseState.NOTICED})


class LeaseEvent(enum.Enum):
    """What happens to a lease."""

    NOTICE = "notice"  #: somebody of higher priority needs the memory
    WITHDRAW = "withdraw"  #: that need is gone
    FENCE = "fence"  #: the notice was ignored
    EXPIRE = "expire"  #: not renewed in time
    RELEASE = "release"  #: its holder gave it back
    BACK = "back"  #: measured: its processes let go
    WRITE_OFF = "write off"  #: its processes did not let go in time


_S = LeaseState
_E = LeaseEvent
TABLE: Final[dict[tuple[LeaseState, LeaseEvent], LeaseState]] = {
    (_S.GRANTED, _E.NOTICE): _S.NOTICED,
    (_S.GRANTED, _E.RELEASE): _S.RELEASING,
    (_S.GRANTED, _E.EXPIRE): _S.RECLAIMING,
    (_S.NOTICED, _E.WITHDRAW): _S.GRANTED,
    (_S.NOTICED, _E.RELEASE): _S.RELEASING,
    (_S.NOTICED, _E.FENCE): _S.FENCED,
    (_S.NOTICED, _E.EXPIRE): _S.RECLAIMING,
    # A late release says what the measurement will show: it is taken, from whoever has the id.
    (_S.FENCED, _E.RELEASE): _S.RELEASING,
    (_S.FENCED, _E.BACK): _S.RECLAIMED,
    (_S.FENCED, _E.WRITE_OFF): _S.UNLEASED,
    (_S.RECLAIMING, _E.RELEASE): _S.RELEASING,
    (_S.RECLAIMING, _E.BACK): _S.RECLAIMED,
    (_S.RECLAIMING, _E.WRITE_OFF): _S.UNLEASED,
    (_S.RELEASING, _E.BACK): _S.RELEASED,
}


def next_state(state: LeaseState, event: LeaseEvent) -> LeaseState:
    """Return the lease's state after `event`.

    Raises:
        ImpossibleError: the table has no such transition.
    """
    try:
        return TABLE[state, event]
    except KeyError:
        raise ImpossibleError(f"a lease that is {state.name} cannot {event.value}") from None
