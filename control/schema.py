"""The file's form and its errors: tables, versions, and what a person is told when SQLite says no."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec

__all__ = ["MEMORY", "SCHEMA", "StoreError", "connected", "explained"]

MEMORY: Final = ":memory:"
#: `PRAGMA user_version`; each step up adds an entry to `_STEPS`.
SCHEMA: Final = 2
#: `PRAGMA application_id`: tells our file from any other SQLite database ("HdRc").
_APPLICATION: Final = 0x48645263
_STEPS: Final = (
    """
    CREATE TABLE meta (changes INTEGER NOT NULL) STRICT;
    INSERT INTO meta VALUES (0);
    -- A tenant's settings are one JSON text: a new one needs no new column.
    CREATE TABLE tenants (name TEXT PRIMARY KEY, settings TEXT NOT NULL) STRICT;
    CREATE TABLE keys (
        id TEXT PRIMARY KEY,
        sha256 TEXT NOT NULL UNIQUE,
        tenant TEXT NOT NULL,
        note TEXT NOT NULL DEFAULT '',
        created_at INTEGER NOT NULL,
        revoked_at INTEGER
    ) STRICT;
    CREATE TABLE secrets (name TEXT PRIMARY KEY, value BLOB NOT NULL, created_at INTEGER NOT NULL) STRICT;
    """,
    # Budgets of single keys.
    """
    ALTER TABLE keys ADD COLUMN tokens_per_day INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE keys ADD COLUMN tokens_per_month INTEGER NOT NULL DEFAULT 0;
    """,
)


class StoreError(Exception):
    """The store cannot be used; the message is one line for a person."""


@contextlib.contextmanager
def explained(path: str) -> Iterator[None]:
    """Turn what SQLite raises into `StoreError`."""
    try:
        yield
    except sqlite3.Error as error:
        raise StoreError(f"{path}: {_words(error)}") from error
    except msgspec.MsgspecError as error:
        raise StoreError(f"{path}: holds a tenant that cannot be read: {error}") from error


def connected(path: str, *, create: bool, busy_ms: int) -> sqlite3.Connection:
    """Return a connection to the store at `path`, its tables as this version knows them.

    Raises:
        StoreError: there is no such file (unless `create`), or it cannot be used.
    """
    if path != MEMORY:
        _ensure(Path(path), create=create)
    with explained(path):
        # Used by one thread at a time, which need not be the one that opened it.
        sql = sqlite3.connect(path, timeout=busy_ms / 1000, isolation_level=None, check_same_thread=False)
        try:
            _prepare(sql, path)
        except BaseException:
            sql.close()
            raise
    return sql


def _prepare(sql: sqlite3.Connection, path: str) -> None:
    version, application = (
        sql.execute(f"PRAGMA {name}").fetchone()[0] for name in ("user_version", "application_id")
    )
    tables = sql.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]
    if application != _APPLICATION and (tables or version or application):
        raise StoreError(f"{path}: is a database of something else; name another file")
    if version > SCHEMA:
        raise StoreError(f"{path}: was written by a newer Headrace (schema {version}, this one knows {SCHEMA})")
    # Readers and a writer do not wait for each other; every commit is synced, so that a revocation stays one.
    sql.execute("PRAGMA journal_mode = WAL")
    sql.execute("PRAGMA synchronous = FULL")
    if version < SCHEMA:
        sql.execute("BEGIN IMMEDIATE")
        # Another process may have been quicker.
        (version,) = sql.execute("PRAGMA user_version").fetchone()
        for step in _STEPS[version:]:
            for statement in step.split(";"):
                sql.execute(statement)
        sql.execute(f"PRAGMA application_id = {_APPLICATION}")
        sql.execute(f"PRAGMA user_version = {SCHEMA}")
        sql.execute("COMMIT")


def _ensure(path: Path, *, create: bool) -> None:
    """See that the file is there, and that nobody else may read it if it is made now."""
    try:
        if create:
            path.parent.mkdir(parents=True, exist_ok=True)
        os.close(os.open(path, os.O_RDWR | (os.O_CREAT if create else 0), 0o600))
    except OSError as error:
        raise StoreError(f"{path}: cannot be opened for writing: {error.strerror}") from None


def _words(error: sqlite3.Error) -> str:
    name = getattr(error, "sqlite_errorname", "")
    if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
        return "another process keeps it locked; try again, or find out who holds it open"
    if name.startswith("SQLITE_FULL"):
        return "the disk is full; nothing was changed"
    if name.startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB")):
        return "is damaged, or no key store; put a backup in its place, or move it away to begin anew"
    if name.startswith("SQLITE_READONLY"):
        return "may not be written by this user"
    return f"{error} ({name})"
