"""What is installed: versions, the pins that matter, and the extras of what is to run."""

from __future__ import annotations

import importlib.metadata
import platform
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Final

from launch.doctor.finding import Finding, bad, good, warning

__all__ = ["Requirement", "extras", "pins", "requirements", "versions"]

_REQUIREMENT: Final = re.compile(r"^([A-Za-z0-9._-]+)(?:\[[^\]]*\])?\s*((?:[<>=!~]=?[^;]*)?)(?:;\s*(.*))?$")
_EXTRA: Final = re.compile(r"extra\s*==\s*['\"]([^'\"]+)['\"]")
_OLDEST: Final = (3, 11)

#: A package's name, what is asked of its version, and the extra that it belongs to (empty = needed always).
Requirement = tuple[str, str, str]
Version = Callable[[str], str | None]


def version_of(name: str) -> str | None:
    """Return the installed version of a distribution, or None."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def requirements(lines: Iterable[str] | None = None) -> list[Requirement]:
    """Return what this distribution asks for.

    Args:
        lines: of its metadata; left out, the installed one's.
    """
    found = []
    for line in importlib.metadata.requires("headrace") or () if lines is None else lines:
        match = _REQUIREMENT.match(line.strip())
        if match is None or match[1] == "headrace":
            continue
        extra = _EXTRA.search(match[3] or "")
        found.append((match[1], match[2].strip(), extra[1] if extra else ""))
    return found


def versions() -> Iterator[Finding]:
    """Say what runs here, and refuse a Python that is too old."""
    seen = f"headrace {version_of('headrace')}, Python {platform.python_version()}, {platform.platform(terse=True)}"
    if sys.version_info[:2] < _OLDEST:
        yield bad("versions", seen, "install Python 3.11 or newer")
        return
    yield good("versions", seen)


def pins(asked: Iterable[Requirement], version: Version = version_of) -> Finding:
    """Judge the packages that every service needs: there, and of the exact version where one is pinned."""
    wrong = []
    for name, wanted, extra in asked:
        if extra:
            continue
        there = version(name)
        if there is None:
            wrong.append(f"{name} is missing")
        elif wanted.startswith("==") and wanted.removeprefix("==").strip() != there:
            wrong.append(f"{name} is {there}, {wanted} is needed exactly")
    if wrong:
        return bad("packages", "; ".join(wrong), "pip install --require-hashes -r requirements.lock")
    return good("packages", "all that every service needs")


def extras(asked: Iterable[Requirement], needed: Iterable[str], version: Version = version_of) -> Iterator[Finding]:
    """Judge the packages of single services.

    Args:
        asked: of this distribution.
        needed: extras of the services that are to run.
        version: of an installed distribution.
    """
    lacking: dict[str, list[str]] = {}
    known: dict[str, None] = {}
    for name, _, extra in asked:
        if extra:
            known[extra] = None
            if version(name) is None:
                lacking.setdefault(extra, []).append(name)
    for extra in needed:
        if extra in lacking:
            yield bad(f"extra.{extra}", f"missing: {', '.join(lacking[extra])}", f"pip install 'headrace[{extra}]'")
    whole = [extra for extra in known if extra not in lacking]
    without = [extra for extra in lacking if extra not in set(needed)]
    seen = f"whole: {', '.join(whole) or 'none'}" + (f"; not installed: {', '.join(without)}" if without else "")
    both = {name for name, _, extra in asked if extra in ("cpu", "gpu") and version(name) is not None}
    if len(both) > 1:
        yield warning(
            "extras",
            f"{seen}; {' and '.join(sorted(both))} share one module, and the one installed last is used",
            "pip uninstall both, then install one of them",
        )
    else:
        yield good("extras", seen)
