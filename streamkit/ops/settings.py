"""Reading settings: every mistake in a file is one line that says where, which limit, and what was found."""

from __future__ import annotations

import difflib
import json
import re
import tomllib
from collections.abc import Iterable, Mapping
from os import PathLike
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec
from msgspec import inspect

__all__ = ["SettingsError", "convert", "nearest", "read"]

T = TypeVar("T")

_AT: Final = re.compile(r"^(?P<what>.*?)(?: - at `(?P<path>\$.*)`)?$", re.DOTALL)
_STEP: Final = re.compile(r"\.(?P<key>[^.\[]+)|\[(?P<index>\d+|\.\.\.)\]")
_GOT: Final = re.compile(r",? got .*$", re.DOTALL)
_SHOWN_CHARS: Final = 60
#: A secret pasted into the wrong place must not reach a terminal or a log.
_SECRET: Final = re.compile(r"(?:^|_)(?:key|secret|token|password)$")


class SettingsError(ValueError):
    """A settings file cannot be used; the message is one line for a person."""


def read(path: str | PathLike[str]) -> dict[str, Any]:
    """Return the tables of the TOML file at `path`.

    Raises:
        SettingsError: the file is missing, unreadable or not TOML.
    """
    shown = str(path)
    try:
        return tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise SettingsError(f"{shown}: no such file") from None
    except IsADirectoryError:
        raise SettingsError(f"{shown}: is a directory, not a file") from None
    except OSError as error:
        raise SettingsError(f"{shown}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise SettingsError(f"{shown}: not UTF-8 text (byte {error.start})") from None
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"{shown}: not valid TOML: {error}") from None


def convert(data: object, type_: type[T], where: str, *, key: str = "") -> T:
    """Return `data`, as TOML gave it, as a `type_`.

    Keys that `type_` does not have are refused at every depth, whether or not its structs say so themselves.

    Args:
        data: tables, arrays and scalars.
        type_: usually a frozen msgspec struct.
        where: the file, as the person knows it.
        key: the dotted key of `data` inside the file; empty = the whole file.

    Raises:
        SettingsError: `where: key.path: what was expected, got what was found`.
    """
    shape = inspect.type_info(type_)
    for path, name, known in _unknown(data, shape, ()):
        place = _dotted(key, (*path, name))
        raise SettingsError(f"{where}: {place}: unknown key{nearest(name, known)}")
    try:
        return msgspec.convert(data, type_)
    except msgspec.ValidationError as error:
        raise SettingsError(f"{where}: {_explain(str(error), data, shape, key)}") from None


def nearest(name: str, known: Iterable[str]) -> str:
    """Return `, did you mean "…"?` for the known name closest to `name`, or an empty string."""
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f', did you mean "{close[0]}"?' if close else ""


_Path = tuple[str | int, ...]


def _unknown(data: object, shape: inspect.Type, path: _Path) -> Iterable[tuple[_Path, str, list[str]]]:
    """Yield (table, key, known keys) of every key that no struct of `shape` has."""
    match shape:
        case inspect.StructType() if isinstance(data, Mapping):
            fields = {field.encode_name: field.type for field in shape.fields}
            for name, value in data.items():
                if name not in fields:
                    yield path, name, list(fields)
                else:
                    yield from _unknown(value, fields[name], (*path, name))
        case inspect.DictType() if isinstance(data, Mapping):
            for name, value in data.items():
                yield from _unknown(value, shape.value_type, (*path, name))
        case inspect.ListType() | inspect.VarTupleType() if isinstance(data, list):
            for index, value in enumerate(data):
                yield from _unknown(value, shape.item_type, (*path, index))
        case inspect.UnionType():
            structs = [option for option in shape.types if not isinstance(option, inspect.NoneType)]
            if len(structs) == 1:
                yield from _unknown(data, structs[0], path)


def _explain(message: str, data: object, shape: inspect.Type, key: str) -> str:
    """Turn msgspec's message about `data` into `key.path: expected …, got …`."""
    match = _AT.match(message)
    assert match is not None  # noqa: S101  the pattern matches any text
    what, path = match["what"].replace("`", ""), _steps(match["path"] or "$")
    found, place = _at(data, shape, path)
    dotted = _dotted(key, path)
    if missing := re.fullmatch(r"Object missing required field (\S+)", what):
        return f"{_dotted(key, (*path, missing[1]))}: required, but missing"
    lead = f"{dotted}: " if dotted else ""
    if what.startswith("Invalid enum value") and isinstance(place, inspect.LiteralType | inspect.EnumType):
        values = place.values if isinstance(place, inspect.LiteralType) else tuple(place.cls)
        options = ", ".join(json.dumps(value) for value in values)
        hint = nearest(str(found), map(str, values))
        return f"{lead}expected one of {options}, got {_shown(found, path)}{hint}"
    if what.startswith("Expected"):
        wanted = re.sub("^ object$", " a table", _GOT.sub("", what.removeprefix("Expected")))
        return f"{lead}expected{wanted}, got {_shown(found, path)}"
    return f"{lead}{what}"


def _steps(path: str) -> _Path:
    steps: list[str | int] = []
    for step in _STEP.finditer(path):
        index = step["index"]
        steps.append(step["key"] if index is None else int(index) if index.isdigit() else "…")
    return tuple(steps)


def _dotted(key: str, path: _Path) -> str:
    text = key
    for step in path:
        text += f"[{step}]" if isinstance(step, int) else f".{step}" if text else step
    return text


_ABSENT: Final = object()


def _at(data: object, shape: inspect.Type | None, path: _Path) -> tuple[object, inspect.Type | None]:
    """Return the value and the expected type at `path`; either may be unknown."""
    for step in path:
        shape = _inside(shape, step)
        match data:
            case dict() if step in data:
                data = data[step]
            case list() if isinstance(step, int) and step < len(data):
                data = data[step]
            case _:
                data = _ABSENT
    return data, _inside(shape, None) if isinstance(shape, inspect.UnionType) else shape


def _inside(shape: inspect.Type | None, step: str | int | None) -> inspect.Type | None:
    """Return the type that `step` reaches in `shape`; None looks through a union with None only."""
    if isinstance(shape, inspect.UnionType):
        options = [option for option in shape.types if not isinstance(option, inspect.NoneType)]
        shape = options[0] if len(options) == 1 else None
    if step is None:
        return shape
    match shape:
        case inspect.StructType():
            return next((field.type for field in shape.fields if field.encode_name == step), None)
        case inspect.DictType():
            return shape.value_type
        case inspect.ListType() | inspect.VarTupleType():
            return shape.item_type
    return None


def _shown(value: object, path: _Path) -> str:
    if value is _ABSENT:
        return "something else"
    if isinstance(value, dict):
        return "a table"
    if isinstance(value, list):
        return "an array"
    if path and isinstance(path[-1], str) and _SECRET.search(path[-1]):
        return "a value that is not shown"
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= _SHOWN_CHARS else f"{text[:_SHOWN_CHARS]}…"
