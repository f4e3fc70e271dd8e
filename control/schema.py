"""The file's form and its errors: tables, versions, and what a person is told when SQLite says no."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from streamkit.ops.file_form import FileForm, FormError
from streamkit.wire.unreadable import UNREADABLE

__all__ = ["MEMORY", "SCHEMA", "StoreError", "connected", "explained"]

MEMORY: Final = ":memory:"
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
_FORM: Final = FileForm(application=0x48645263, steps=_STEPS)  # "HdRc"
#: Its newest version.
SCHEMA: Final = _FORM.version


class StoreError(Exception):
    """The store cannot be used; the message is one line for a person."""


@contextlib.contextmanager
def explained(path: str) -> Iterator[None]:
    """Turn what SQLite raises into `StoreError`."""
    try:
        yield
    except sqlite3.Error as error:
        raise StoreError(f"{path}: {_words(error)}") from error
    except UNREADABLE as error:
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
    try:
        _FORM.check(sql)
    except FormError as error:
        raise StoreError(f"{path}: {error}") from None
    # Readers and a writer do not wait for each other; every commit is synced, so that a revocation stays one.
    sql.execute("PRAGMA journal_mode = WAL")
    sql.execute("PRAGMA synchronous = FULL")
    _FORM.bring(sql)


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
