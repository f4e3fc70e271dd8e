"""The one byte budget of a process, above the bounds of all its buffers (law 2).

Buffers reserve before they hold and release when they let go. Accounts say who holds what; the limit is on the sum.
"""

from __future__ import annotations

__all__ = ["Account", "Budget"]


class Budget:
    """A limit of bytes, shared by named accounts. Used from one thread.

    Args:
        limit_bytes: the most that all accounts together may hold.

    Raises:
        ValueError: the limit is negative.
    """

    __slots__ = ("_accounts", "_high_water_bytes", "_used_bytes", "limit_bytes", "refused")

    def __init__(self, limit_bytes: int) -> None:
        if limit_bytes < 0:
            raise ValueError(f"a budget cannot be negative: limit_bytes={limit_bytes}")
        self.limit_bytes = limit_bytes
        #: Reservations that were refused since the start.
        self.refused = 0
        self._used_bytes = 0
        self._high_water_bytes = 0
        self._accounts: dict[str, Account] = {}

    @property
    def used_bytes(self) -> int:
        """Bytes held by all accounts now."""
        return self._used_bytes

    @property
    def free_bytes(self) -> int:
        """Bytes that can still be reserved."""
        return self.limit_bytes - self._used_bytes

    @property
    def high_water(self) -> int:
        """The most bytes ever held at a time."""
        return self._high_water_bytes

    @property
    def accounts(self) -> dict[str, int]:
        """Bytes held now, by account name."""
        return {name: account.used_bytes for name, account in self._accounts.items()}

    def account(self, name: str) -> Account:
        """Return the account of that name, the same one each time."""
        account = self._accounts.get(name)
        if account is None:
            account = self._accounts[name] = Account(self, name)
        return account

    def reserve(self, size_bytes: int) -> bool:
        """Reserve on the account `other`; see `Account.reserve`."""
        return self.account("other").reserve(size_bytes)

    def release(self, size_bytes: int) -> None:
        """Release from the account `other`; see `Account.release`."""
        self.account("other").release(size_bytes)

    def _take(self, size_bytes: int) -> bool:
        used = self._used_bytes + size_bytes
        if used > self.limit_bytes:
            self.refused += 1
            return False
        self._used_bytes = used
        self._high_water_bytes = max(self._high_water_bytes, used)
        return True

    def _give(self, size_bytes: int) -> None:
        self._used_bytes -= size_bytes


class Account:
    """One holder's part of a budget; made by `Budget.account`."""

    __slots__ = ("_budget", "_used_bytes", "name")

    def __init__(self, budget: Budget, name: str) -> None:
        self.name = name
        self._budget = budget
        self._used_bytes = 0

    @property
    def used_bytes(self) -> int:
        """Bytes that this account holds now."""
        return self._used_bytes

    def reserve(self, size_bytes: int) -> bool:
        """Take `size_bytes` out of the budget, or return False and take nothing.

        Raises:
            ValueError: a negative size.
        """
        if size_bytes < 0:
            raise ValueError(f"cannot reserve {size_bytes} bytes")
        if not self._budget._take(size_bytes):  # noqa: SLF001 - an account is half of its budget
            return False
        self._used_bytes += size_bytes
        return True

    def release(self, size_bytes: int) -> None:
        """Give `size_bytes` back.

        Raises:
            ValueError: more than the account holds, which means that something was released twice.
        """
        if not 0 <= size_bytes <= self._used_bytes:
            raise ValueError(f"account {self.name!r} holds {self._used_bytes} bytes, it cannot release {size_bytes}")
        self._used_bytes -= size_bytes
        self._budget._give(size_bytes)  # noqa: SLF001 - an account is half of its budget
