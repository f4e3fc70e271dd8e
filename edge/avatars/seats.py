"""How many viewers there may be: of one tenant, and of this edge."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from edge.avatars.settings import AvatarSettings
from streamkit.wire.errors import Code, HeadraceError

__all__ = ["Seat", "Seats"]


class Seat:
    """A viewer's place in the limits; `leave` it exactly once."""

    __slots__ = ("_give", "_taken")

    def __init__(self, give: Callable[[], None]) -> None:
        self._give = give
        self._taken = True

    def leave(self) -> None:
        """Give it back."""
        if self._taken:
            self._taken = False
            self._give()


class Seats:
    """The places of all viewers.

    Args:
        settings: the limits.
    """

    def __init__(self, settings: AvatarSettings) -> None:
        self._settings = settings
        self._tenants: Counter[str] = Counter()

    @property
    def taken(self) -> int:
        """How many there are."""
        return self._tenants.total()

    def take(self, tenant: str) -> Seat:
        """Take one.

        Raises:
            HeadraceError: OVER_QUOTA for the tenant, AT_CAPACITY for the edge.
        """
        settings = self._settings
        if self._tenants[tenant] >= settings.tenant_viewers:
            text = f"This tenant has {settings.tenant_viewers} viewers here; the limit is tenant_viewers."
            raise HeadraceError(Code.OVER_QUOTA, text)
        if self.taken >= settings.max_viewers:
            text = f"This edge has {settings.max_viewers} viewers; the limit is max_viewers."
            raise HeadraceError(Code.AT_CAPACITY, text)
        self._tenants[tenant] += 1

        def give() -> None:
            self._tenants[tenant] -= 1
            if not self._tenants[tenant]:
                del self._tenants[tenant]

        return Seat(give)
