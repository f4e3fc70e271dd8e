"""`headrace backup`: whole copies of the SQLite files of this machine, while the services that own them run.

Copied with SQLite's own backup, so that what is in a log beside the file is in the copy; every copy is read whole
before the command says that it is there.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import sqlite3
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from launch import config
from launch.folder import found_store
from launch.ports import PORT_BASE
from streamkit.ops.command import carry_out
from streamkit.ops.options import Parser, free_or_port
from streamkit.ops.settings import SettingsError

__all__ = ["main"]

_BUSY_S: Final = 5.0
#: With it the ids of leases are told from invented ones: a ledger without it is of no use.
_LEASE_KEY: Final = "lease-ids.key"
_USAGE: Final = "usage.db"
#: Up to where each feed was counted: a tally without it would count some twice.
_POSITIONS: Final = "positions.json"


class _File(NamedTuple):
    """One file to copy, and whether it is a database."""

    path: Path
    database: bool


def main(argv: Sequence[str]) -> int:
    """Copy the files and return the exit status; 2 = it cannot be done as asked."""
    return carry_out(_parser(), argv, _run)


def _run(options: argparse.Namespace) -> int:
    for path in _copy([*_files(options)], Path(options.folder)):
        print(f"{path}  {path.stat().st_size:,} bytes")
    print("They are as secret as what they are copies of.", file=sys.stderr)
    return 0


def _files(options: argparse.Namespace) -> Iterator[_File]:
    """Yield what is there of the key store, the ledger and what was used.

    Raises:
        SettingsError: the configuration cannot be used, or none is there.
    """
    control = config.section(options.config, "control")
    store = Path(control.store_path or found_store(options.port_base))
    folder = _ledger_folder(options)
    found = [_File(store, database=True)] if store.is_file() else []
    found += [_File(path, database=True) for path in sorted(folder.glob("ledger*.sqlite"))]
    if (key := folder / _LEASE_KEY).is_file():
        found.append(_File(key, database=False))
    observed = _beside(options, "observe", config.section(options.config, "observe").state_dir)
    if (usage := observed / _USAGE).is_file():
        found.append(_File(usage, database=True))
        if (positions := observed / _POSITIONS).is_file():
            found.append(_File(positions, database=False))
    if not any(file.database for file in found):
        raise SettingsError(
            f"there is no key store at {store}, no ledger in {folder} and no usage in {observed}: name their file"
            " with --config"
        )
    yield from found


def _beside(options: argparse.Namespace, name: str, state_dir: str) -> Path:
    """Return the folder of a service: as it is set, or beside the key store of `headrace up`."""
    return Path(state_dir) if state_dir else Path(found_store(options.port_base)).parent / name


def _ledger_folder(options: argparse.Namespace) -> Path:
    arbiter = config.section(options.config, "arbiter")
    beside = _beside(options, "arbiter", "")
    if not arbiter.state_dir and beside.is_dir():
        return beside
    try:
        from core_gpu.arbiter.run import state_dir  # noqa: PLC0415  needs grpc, which a control host may lack
    except ModuleNotFoundError:
        return Path(arbiter.state_dir or beside)
    return state_dir(arbiter)


def _copy(files: Sequence[_File], folder: Path) -> list[Path]:
    """Copy files into a new folder.

    Raises:
        SettingsError: the folder is there and not empty, or one of the files cannot be copied.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        if any(folder.iterdir()):
            raise SettingsError(f"{folder}: is not empty; every backup is a folder of its own")
        return [_copied(file, folder / file.path.name) for file in files]
    except OSError as error:
        raise SettingsError(f"{folder}: cannot be written: {error.strerror}") from None


def _copied(file: _File, target: Path) -> Path:
    os.close(os.open(target, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    if not file.database:
        shutil.copyfile(file.path, target)
        return target
    try:
        with (
            contextlib.closing(sqlite3.connect(file.path, timeout=_BUSY_S)) as source,
            contextlib.closing(sqlite3.connect(target)) as copy,
        ):
            source.backup(copy)
            (said,) = copy.execute("PRAGMA integrity_check").fetchone()
    except sqlite3.Error as error:
        raise SettingsError(f"{file.path}: cannot be copied: {error}") from None
    if said != "ok":
        raise SettingsError(f"{file.path}: the copy is not whole: {said}")
    return target


def _parser() -> Parser:
    parser = Parser(
        prog="headrace backup",
        description="Copy this machine's key store, lease ledger and tally of what was used into a new folder, while"
        " their services run.",
    )
    parser.add_argument("folder", metavar="FOLDER", help="a new folder, or an empty one")
    parser.add_argument("--config", metavar="FILE", help="a headrace.toml that names the files")
    parser.add_argument(
        "--port-base",
        type=free_or_port,
        default=PORT_BASE,
        metavar="N",
        help="of the headrace up that runs here (%(default)s)",
    )
    return parser
