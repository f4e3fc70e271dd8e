"""Control's memory that outlives it: keys, tenants and a few secrets, in one SQLite file.

`headrace keys` writes to the same file from a process of its own; control sees that by `changed` and has no door on
the network that could make keys (docs/adr/0014-keys-live-in-a-file.md). A commit is on the disk when it returns: a
revocation must survive a power cut. Calls block for up to `busy_ms`, so a server makes them on a thread.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final, Self

import msgspec

from control.schema import MEMORY, StoreError, connected, explained
from streamkit.wire.keys import CLIENT_TOKENS, STREAM_IDS, KeyRecord, KeySnapshot, Tenant, digest, new_key, new_key_id

__all__ = ["MEMORY", "KeyLine", "NewKey", "Store", "StoreError"]

_SECRET_BYTES: Final = 32
#: Made when a store is opened: every edge needs the same ones, after every restart.
_SECRETS: Final = (CLIENT_TOKENS, STREAM_IDS)


class NewKey(msgspec.Struct, frozen=True, kw_only=True):
    """A key that was just made; `key` is shown once and kept nowhere."""

    id: str
    key: str
    tenant: str


class KeyLine(msgspec.Struct, frozen=True, kw_only=True):
    """One key as a person may see it; times are seconds since 1970."""

    id: str
    tenant: str
    note: str
    created_at: int
    revoked_at: int | None
    #: Its own budgets; 0 = none.
    tokens_per_day: int = 0
    tokens_per_month: int = 0


class Store:
    """The file, open. Use it as a context manager, from one thread at a time.

    Args:
        path: the file, or `:memory:`.
        create: make the file, and folders above it, where there is none.
        busy_ms: longest wait for another process's lock.

    Raises:
        StoreError: there is no such file, or it cannot be used.
    """

    def __init__(self, path: str | os.PathLike[str], *, create: bool = False, busy_ms: int = 2_000) -> None:
        self.path = str(path)
        self._sql = connected(self.path, create=create, busy_ms=busy_ms)
        self._file = self._place()
        self._seen = 0
        self._prepare()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; the last one to do so merges its journal into it."""
        self._sql.close()

    def changed(self) -> bool:
        """Say whether another process has changed the file since this last said so.

        Raises:
            StoreError: the file is gone, is another one, or cannot be used.
        """
        if self._place() != self._file:
            # Its journal may be that of the file before; SQLite would mix the two.
            raise StoreError(f"{self.path}: another file was put in its place; stop control, then start it again")
        with explained(self.path):
            version = self._sql.execute("PRAGMA data_version").fetchone()[0]
        before, self._seen = self._seen, version
        return bool(version != before)

    def snapshot(self, *, required: bool = False) -> KeySnapshot:
        """Return what edges need to know.

        Args:
            required: demand keys though there was never one.

        Raises:
            StoreError: the file cannot be read.
        """
        with explained(self.path), self._transaction("BEGIN") as sql:
            changes = sql.execute("SELECT changes FROM meta").fetchone()[0]
            keys = sql.execute(
                "SELECT id, sha256, tenant, revoked_at, tokens_per_day, tokens_per_month FROM keys ORDER BY rowid"
            ).fetchall()
            tenants = sql.execute("SELECT settings FROM tenants ORDER BY name").fetchall()
            named = sql.execute("SELECT name, value FROM secrets ORDER BY name").fetchall()
            return KeySnapshot(
                version=changes,
                # Revoking the last key must not let everybody in.
                required=required or bool(keys),
                keys=tuple(
                    KeyRecord(id=id_, sha256=sha, tenant=of, tokens_per_day=day, tokens_per_month=month)
                    for id_, sha, of, revoked, day, month in keys
                    if not revoked
                ),
                tenants=tuple(msgspec.json.decode(settings, type=Tenant) for (settings,) in tenants),
                secrets={name: value.hex() for name, value in named},
            )

    def create_key(self, tenant: Tenant | str, *, note: str = "") -> NewKey:
        """Make a key for a tenant; a `Tenant` replaces the tenant's settings, a name keeps them.

        Raises:
            StoreError: the file cannot be written.
        """
        made = NewKey(id=new_key_id(), key=new_key(), tenant=tenant if isinstance(tenant, str) else tenant.name)
        with self._writing() as sql:
            if isinstance(tenant, Tenant):
                _put_tenant(sql, tenant)
            else:
                empty = msgspec.json.encode(Tenant(name=tenant)).decode()
                sql.execute("INSERT OR IGNORE INTO tenants VALUES (?, ?)", (tenant, empty))
            row = (made.id, digest(made.key), made.tenant, note, _now())
            sql.execute("INSERT INTO keys (id, sha256, tenant, note, created_at) VALUES (?, ?, ?, ?, ?)", row)
        return made

    def revoke_key(self, key_id: str) -> bool:
        """Revoke a key; False = there is none of that name that is valid.

        Raises:
            StoreError: the file cannot be written.
        """
        with self._writing() as sql:
            given = (_now(), key_id)
            done = sql.execute("UPDATE keys SET revoked_at = ? WHERE id = ? AND revoked_at IS NULL", given)
            return done.rowcount == 1

    def list_keys(self) -> list[KeyLine]:
        """Return every key, the revoked ones too, in the order in which they were made.

        Raises:
            StoreError: the file cannot be read.
        """
        with explained(self.path):
            rows = self._sql.execute(
                "SELECT id, tenant, note, created_at, revoked_at, tokens_per_day, tokens_per_month FROM keys"
                " ORDER BY rowid"
            )
            names = KeyLine.__struct_fields__
            return [KeyLine(**dict(zip(names, row, strict=True))) for row in rows]

    def set_budget(self, key_id: str, *, tokens_per_day: int | None, tokens_per_month: int | None) -> bool:
        """Set a key's own budgets, None leaves one as it is; False = there is no such key that is valid.

        Raises:
            StoreError: the file cannot be written.
        """
        with self._writing() as sql:
            done = sql.execute(
                "UPDATE keys SET tokens_per_day = coalesce(?, tokens_per_day),"
                " tokens_per_month = coalesce(?, tokens_per_month) WHERE id = ? AND revoked_at IS NULL",
                (tokens_per_day, tokens_per_month, key_id),
            )
            return done.rowcount == 1

    def tenant(self, name: str) -> Tenant | None:
        """Return a tenant's settings, or None.

        Raises:
            StoreError: the file cannot be read.
        """
        with explained(self.path):
            row = self._sql.execute("SELECT settings FROM tenants WHERE name = ?", (name,)).fetchone()
            return None if row is None else msgspec.json.decode(row[0], type=Tenant)

    def put_tenant(self, tenant: Tenant) -> None:
        """Set a tenant's settings.

        Raises:
            StoreError: the file cannot be written.
        """
        with self._writing() as sql:
            _put_tenant(sql, tenant)

    def rotate_secret(self, name: str) -> None:
        """Replace a secret; whatever the old one signed is worthless from now on.

        Raises:
            StoreError: the file cannot be written.
        """
        with self._writing() as sql:
            row = (name, secrets.token_bytes(_SECRET_BYTES), _now())
            sql.execute("INSERT OR REPLACE INTO secrets VALUES (?, ?, ?)", row)

    def backup(self, path: str | os.PathLike[str]) -> None:
        """Write a whole copy to a new file, while others go on reading and writing.

        Raises:
            StoreError: there is such a file, or it cannot be written.
        """
        target = Path(path)
        try:
            os.close(os.open(target, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        except OSError as error:
            raise StoreError(f"{target}: cannot be written: {error.strerror}") from None
        with explained(str(target)), contextlib.closing(sqlite3.connect(target)) as copy:
            self._sql.backup(copy)

    def _prepare(self) -> None:
        with explained(self.path):
            there = {name for (name,) in self._sql.execute("SELECT name FROM secrets")}
        if missing := set(_SECRETS) - there:
            with self._writing() as sql:
                for name in missing:
                    row = (name, secrets.token_bytes(_SECRET_BYTES), _now())
                    sql.execute("INSERT OR IGNORE INTO secrets VALUES (?, ?, ?)", row)
        with explained(self.path):
            self._seen = self._sql.execute("PRAGMA data_version").fetchone()[0]

    def _place(self) -> tuple[int, int]:
        """Return which file lies at the path."""
        if self.path == MEMORY:
            return (0, 0)
        try:
            found = os.stat(self.path)  # noqa: PTH116 - the path may be anything that SQLite takes
        except OSError as error:
            raise StoreError(f"{self.path}: cannot be read: {error.strerror}") from None
        return (found.st_dev, found.st_ino)

    @contextlib.contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        """Change the store, all or nothing; on the disk when the block has ended."""
        with explained(self.path), self._transaction("BEGIN IMMEDIATE") as sql:
            before = sql.total_changes
            yield sql
            if sql.total_changes != before:
                sql.execute("UPDATE meta SET changes = changes + 1")

    @contextlib.contextmanager
    def _transaction(self, begin: str) -> Iterator[sqlite3.Connection]:
        self._sql.execute(begin)
        try:
            yield self._sql
        except BaseException:
            if self._sql.in_transaction:
                self._sql.execute("ROLLBACK")
            raise
        self._sql.execute("COMMIT")


def _put_tenant(sql: sqlite3.Connection, tenant: Tenant) -> None:
    settings = msgspec.json.encode(tenant).decode()
    sql.execute("INSERT OR REPLACE INTO tenants VALUES (?, ?)", (tenant.name, settings))


def _now() -> int:
    return int(time.time())
