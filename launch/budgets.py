"""The `[[budgets]]` of `headrace.toml`: read, and refused where they cannot hold."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from streamkit.ops import settings
from streamkit.ops.settings import SettingsError

if TYPE_CHECKING:
    from core_gpu.modes.settings import Budget, GpuSettings

__all__ = ["budgets_of", "check_budgets"]


def budgets_of(tables: dict[str, Any], where: str) -> tuple[Budget, ...]:
    """Return the budgets in the tables of a file.

    Args:
        tables: of the whole file.
        where: the file, as the person knows it.

    Raises:
        SettingsError: in one line, what is wrong and where.
    """
    if not tables.get("budgets"):
        return ()
    from core_gpu.modes.settings import Budget  # noqa: PLC0415  an edge process loads nothing of the arbiter's

    return settings.convert(tables["budgets"], tuple[Budget, ...], where, key="budgets")


def check_budgets(found: tuple[Budget, ...], gpu: GpuSettings, where: str) -> None:
    """Refuse budgets that cannot hold.

    Raises:
        SettingsError: in one line, why.
    """
    from core_gpu.modes.plan import refusal  # noqa: PLC0415  as above

    for index, budget in enumerate(found):
        for name in ("on_overrun", "on_sick"):
            if getattr(budget, name) == "restart" and not budget.restart:
                key = f"{where}: budgets[{index}].restart"
                raise SettingsError(f'{key}: expected the command that restarts it, for {name} = "restart"')
    if why := refusal(gpu, found):
        raise SettingsError(f"{where}: {why}")
