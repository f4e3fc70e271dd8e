"""The `[[aliases]]`, `[[equivalents]]` and `[[models]]` of `headrace.toml`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from streamkit.ops import settings
from streamkit.ops.settings import SettingsError
from streamkit.wire.models import Alias, Equivalents, Model, Models

__all__ = ["models_of"]


def models_of(tables: dict[str, Any], where: str) -> Models:
    """Return what the tables of a file say about models.

    Args:
        tables: of the whole file.
        where: the file, as the person knows it.

    Raises:
        SettingsError: in one line, what is wrong and where.
    """
    found = Models(
        aliases=settings.convert(tables.get("aliases", []), tuple[Alias, ...], where, key="aliases"),
        equivalents=settings.convert(
            tables.get("equivalents", []), tuple[Equivalents, ...], where, key="equivalents"
        ),
        models=settings.convert(tables.get("models", []), tuple[Model, ...], where, key="models"),
    )
    _once(f"{where}: aliases", (alias.name for alias in found.aliases))
    _once(f"{where}: models", (model.name for model in found.models))
    for index, alias in enumerate(found.aliases):
        if len(set(alias.models)) < len(alias.models):
            raise SettingsError(f"{where}: aliases[{index}].models: expected each model once")
    for index, group in enumerate(found.equivalents):
        if len(set(group.models)) < len(group.models):
            raise SettingsError(f"{where}: equivalents[{index}].models: expected each model once")
    return found


def _once(key: str, names: Iterable[str]) -> None:
    seen: dict[str, int] = {}
    for index, name in enumerate(names):
        if name in seen:
            raise SettingsError(f'{key}[{index}].name: "{name}" is [{seen[name]}] already')
        seen[name] = index
