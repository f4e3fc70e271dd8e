"""Which struct a table of `headrace.toml` becomes."""

from __future__ import annotations

import importlib
from typing import Final

from msgspec import inspect

from launch import config
from launch.reference.shapes import field_of

__all__ = ["shape_of"]

#: Arrays of tables; those that are services are `config`'s own.
_ARRAYS: Final = {
    "backends": ("streamkit.wire.backend", "Backend"),
    "aliases": ("streamkit.wire.models", "Alias"),
    "equivalents": ("streamkit.wire.models", "Equivalents"),
    "models": ("streamkit.wire.models", "Model"),
    "avatars": ("compositor.settings", "AvatarSettings"),
    "budgets": ("core_gpu.modes.settings", "Budget"),
}


def shape_of(name: str) -> inspect.Type:
    """Return the shape of a table, `backends.capabilities` for one inside another.

    Raises:
        LookupError: no struct is known for it.
    """
    first, *inner = name.split(".")
    module, kind = {**config.SECTIONS, **_ARRAYS}.get(first, ("", ""))
    if not module:
        raise LookupError(f"headrace.toml: [{name}]: say in launch/reference/tables.py which struct it becomes")
    shape: inspect.Type = inspect.type_info(getattr(importlib.import_module(module), kind))
    for key in inner:
        place = field_of(shape, key)
        if place is None:
            raise LookupError(f"headrace.toml: [{name}]: {key} is no table with keys of its own")
        shape = place.type
    return shape
