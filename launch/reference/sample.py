"""`headrace.toml` as what it is besides a configuration: the one place where every setting is explained."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

__all__ = ["Group", "Setting", "Table", "groups"]

_GROUP: Final = re.compile(r"^# ── (?P<title>.+?) ─+$")
_TABLE: Final = re.compile(r"^#?\[(?P<array>\[)?(?P<name>[a-z_.]+)\]\]?$")
_SETTING: Final = re.compile(r"^#?(?P<key>[a-z_][a-z0-9_]*) = (?P<value>.+)$")
#: Stands between groups of keys inside a table.
_ASIDE: Final = "# —"


@dataclass(frozen=True, slots=True)
class Setting:
    """One key: its value as the file shows it, and the words above it."""

    key: str
    shown: str
    words: str


@dataclass(slots=True)
class Table:
    """One table, or one array of tables."""

    name: str
    array: bool
    words: str
    settings: list[Setting] = field(default_factory=list)


@dataclass(slots=True)
class Group:
    """What stands under one headline."""

    title: str
    words: list[str] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)


def groups(text: str) -> list[Group]:
    """Return the file's groups in their order; a table that is shown again is one."""
    found: list[Group] = []
    known: dict[str, Table] = {}
    said: list[str] = []
    table: Table | None = None
    for line in text.splitlines():
        if heading := _GROUP.match(line):
            found.append(Group(heading["title"]))
            table, said = None, []
        elif not found or line.startswith(_ASIDE):
            continue
        elif head := _TABLE.match(line):
            table = known.get(head["name"])
            if table is None:
                table = known[head["name"]] = Table(head["name"], bool(head["array"]), " ".join(said))
                found[-1].tables.append(table)
            said = []
        elif setting := _SETTING.match(line):
            _take(table, Setting(setting["key"], setting["value"], " ".join(said)))
            said = []
        elif line.startswith("# "):
            said.append(line.removeprefix("# ").strip())
        else:
            # Words that no key follows are about the whole group, until its first table has keys.
            if said and not any(each.settings for each in found[-1].tables):
                found[-1].words.append(" ".join(said))
            said = []
    return [group for group in found if [*_keys(group)]]


def _take(table: Table | None, setting: Setting) -> None:
    if table is not None and setting.key not in {each.key for each in table.settings}:
        table.settings.append(setting)


def _keys(group: Group) -> Iterator[str]:
    for table in group.tables:
        yield from (setting.key for setting in table.settings)
