"""The rule, fixed before any figure is taken, by which a run does not count."""

from __future__ import annotations

from typing import Final

#: Most CPU that anyone but the gateway may use on the gateway's core, as a share of the core.
FOREIGN_MAX: Final = 0.05
#: From this share of the load side's core on, the load side may be what was measured.
LOAD_BUSY_MAX: Final = 0.90
#: A void run is repeated so often at most; after that the round has no value.
REPEATS: Final = 2


def void_reason(*, foreign: float, load_busy: float, saturating: bool) -> str | None:
    """Say why a run does not count, or return None.

    Args:
        foreign: share of the gateway's core used by others, 0 to 1.
        load_busy: share of the load side's core in use by anyone, 0 to 1.
        saturating: the scenario drives everything as hard as it goes, so a busy load side is expected.
    """
    if foreign > FOREIGN_MAX:
        return f"others used {foreign:.1%} of the gateway's core (at most {FOREIGN_MAX:.0%})"
    if not saturating and load_busy >= LOAD_BUSY_MAX:
        return f"the load side's core was {load_busy:.1%} busy (less than {LOAD_BUSY_MAX:.0%})"
    return None
