"""docs/reference/configuration.md: every setting with unit, limits and default, in the words of `headrace.toml`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from msgspec import inspect

from launch.reference.sample import Group, Setting, Table, groups
from launch.reference.shapes import field_of, words
from launch.reference.tables import shape_of

__all__ = ["configuration"]

_HEAD: Final = """\
# Configuration

One TOML file for all services ([headrace.toml](../../headrace.toml) is it, with every default). Written by
`make reference` from that file's words and from the types in the code; `headrace check FILE` holds a file against the
same types.

- Durations end in `_ms`, sizes in `_bytes`, memory of GPUs in `_mb` (MiB). A number outside its limits, a key that
  nobody knows, or the wrong type is refused in one line with place, limit and what was found.
- A service reads its own table and, where it needs them, the arrays; a file may hold several machines' services.
  `headrace check --service edge FILE` judges it as that machine would.
- Secrets never stand in the file: a key that ends in `_env` names the environment variable that holds one.
- SIGHUP puts a changed file into force where that goes without a restart ([behavior](../behavior.md)); a bad one
  is refused, and the one before stays.
"""


def configuration(sample: str) -> str:
    """Return the page.

    Args:
        sample: the text of `headrace.toml`.
    """
    lines = [_HEAD]
    for group in groups(sample):
        lines += [*_group(group), ""]
    return "\n".join(lines).rstrip() + "\n"


def _group(group: Group) -> Iterator[str]:
    yield f"## {group.title}"
    yield ""
    for paragraph in group.words:
        yield paragraph
        yield ""
    for table in group.tables:
        if table.settings:
            yield from _table(table)
            yield ""


def _table(table: Table) -> Iterator[str]:
    shape = shape_of(table.name)
    yield f"### `[[{table.name}]]`" if table.array else f"### `[{table.name}]`"
    yield ""
    if table.words:
        yield table.words
        yield ""
    yield "| key | default | what may stand there | |"
    yield "|---|---|---|---|"
    for setting in table.settings:
        yield _row(setting, shape)


def _row(setting: Setting, shape: inspect.Type) -> str:
    place = field_of(shape, setting.key)
    default, may = f"`{setting.shown}`", "a value"
    if place is not None:
        may = words(place.type, setting.key)
        if place.required:
            default = "required"
        elif place.default is None:
            default = "none"
        elif setting.shown == '""':
            default = "empty"
    return f"| `{setting.key}` | {default} | {_cell(may)} | {_cell(setting.words)} |"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
