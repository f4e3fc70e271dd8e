"""The ledger: leases on disk, committed before they are answered, so that `kill -9` loses and doubles nothing.

SQLite with a write-ahead log. The connection that commits never waits for a disk: it runs without synchronisation,
because what it protects does not outlive the kernel either. A lease is about memory of running processes; after a
power loss or a reboot there are none, the file is another boot's by its name, and it is thrown away unread, so it
need not be whole. Checkpoints, on a thread of their own with `synchronous=NORMAL`, move the log into the database.

Nothing here is shared between processes: `ledger.lock` is held for as long as the ledger is open.
"""

from __future__ import annotations

import contextlib
import fcntl
import sqlite3
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

from core_gpu.arbiter.clocks import Clocks
from core_gpu.arbiter.lease import Lease
from core_gpu.arbiter.states import LeaseState
from streamkit.ops.file_form import FileForm, FormError

__all__ = ["Ledger", "LedgerError", "LedgerFullError", "Restored", "StartupRow"]

#: A row takes 300 bytes, and the log takes whole pages.
_PAGE_BYTES: Final = 1024
_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS lease (
    id TEXT PRIMARY KEY, client TEXT NOT NULL, model TEXT NOT NULL, gpu TEXT NOT NULL, reserved_mb INTEGER NOT NULL,
    priority INTEGER NOT NULL, ttl_s REAL NOT NULL, expires_s REAL NOT NULL, expires_wall_s REAL NOT NULL,
    granted_s REAL NOT NULL, exclusive_group TEXT NOT NULL, preemptible INTEGER NOT NULL, pids TEXT NOT NULL,
    loaded INTEGER NOT NULL, state TEXT NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS startup (
    id TEXT PRIMARY KEY, client TEXT NOT NULL, gpus TEXT NOT NULL, leases TEXT NOT NULL, ends_s REAL NOT NULL
) WITHOUT ROWID
"""
_FORM: Final = FileForm(  # "HdLe"; the first ledgers bore no mark
    application=0x48644C65, steps=(_SCHEMA,), unmarked=frozenset({"lease", "startup"})
)
_INSERT: Final = f"INSERT OR REPLACE INTO lease VALUES ({', '.join('?' * 15)})"  # noqa: S608  question marks only


class LedgerError(Exception):
    """The ledger cannot be opened or written; the message is one line for a person."""


class LedgerFullError(LedgerError):
    """No room: the disk is full, or the ledger has reached its bound. What is in it stays readable."""


@dataclass(frozen=True, slots=True)
class StartupRow:
    """A start-up barrier as it is kept."""

    id: str
    client: str
    gpus: tuple[str, ...]
    leases: tuple[str, ...]
    ends_s: float


@dataclass(frozen=True, slots=True)
class Restored:
    """What an earlier life left.

    Args:
        leases: with `expires_s` in this life's monotonic time.
        startups: barriers that were up.
        voided: ledgers of earlier boots that were thrown away.
    """

    leases: tuple[Lease, ...]
    startups: tuple[StartupRow, ...]
    voided: int


def _passes(_point: str) -> None:
    return


class Ledger:
    """Leases on disk; used by one thread, but for `checkpoint`.

    Args:
        folder: made if need be.
        clocks: of this life.
        max_bytes: bound of the database, and of the log beside it.
        at: called at each named point of a write; tests crash there.

    Raises:
        LedgerError: it cannot be used, or another arbiter uses it.
    """

    def __init__(
        self,
        folder: Path,
        clocks: Clocks,
        *,
        max_bytes: int = 64 * 1024 * 1024,
        at: Callable[[str], None] = _passes,
    ) -> None:
        self._clocks = clocks
        self._at = at
        self._max_bytes = max_bytes
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._lock = _locked(folder / "ledger.lock")
        except OSError as error:
            raise LedgerError(f"{folder}: cannot be used for the ledger: {error.strerror}") from None
        self.path = folder / (f"ledger-{clocks.boot}.sqlite" if clocks.boot else "ledger.sqlite")
        self._voided = _void(folder, self.path)
        try:
            with contextlib.closing(sqlite3.connect(self.path)) as found:
                _FORM.check(found)
            self._db = self._connect("OFF")
            _FORM.bring(self._db)
        except FormError as error:
            self._lock.close()
            raise LedgerError(f"{self.path}: {error}") from None
        except sqlite3.Error as error:
            self._lock.close()
            raise LedgerError(
                f"{self.path}: cannot be used: {error}; move it away, and the arbiter starts from what it measures"
            ) from None
        # One checkpoint at a time, and none on a closed ledger.
        self._checkpointing = threading.Lock()
        self._open = True

    def restored(self) -> Restored:
        """Return what an earlier life left."""
        now, clocks = self._clocks.monotonic(), self._clocks
        leases = [
            Lease(
                id=row[0], client=row[1], model=row[2], gpu=row[3], reserved_mb=row[4], priority=row[5], ttl_s=row[6],
                expires_s=now + clocks.left_s(row[7], row[8], row[6]), granted_s=min(row[9], now),
                exclusive_group=row[10], preemptible=bool(row[11]), pids=_numbers(row[12]), loaded=bool(row[13]),
                state=LeaseState[row[14]], since_s=now,
            )
            for row in self._db.execute("SELECT * FROM lease ORDER BY granted_s, id")
        ]  # fmt: skip
        startups = [
            StartupRow(row[0], row[1], tuple(row[2].split()), tuple(row[3].split()), row[4])
            for row in self._db.execute("SELECT * FROM startup ORDER BY id")
        ]
        return Restored(tuple(leases), tuple(startups), self._voided)

    def put(self, lease: Lease) -> None:
        """Write a lease as it is now, and commit.

        Raises:
            LedgerFullError: no room; nothing was written.
            LedgerError: it cannot be written.
        """
        wall = self._clocks.wall() + (lease.expires_s - self._clocks.monotonic())
        self._write(
            _INSERT,
            (
                lease.id, lease.client, lease.model, lease.gpu, lease.reserved_mb, lease.priority, lease.ttl_s,
                lease.expires_s, wall, lease.granted_s, lease.exclusive_group, lease.preemptible,
                " ".join(map(str, sorted(lease.pids))), lease.loaded, lease.state.name,
            ),
        )  # fmt: skip

    def remove(self, lease_id: str) -> None:
        """Take a lease out, and commit.

        Raises:
            LedgerError: it cannot be written.
        """
        self._write("DELETE FROM lease WHERE id = ?", (lease_id,))

    def put_startup(self, row: StartupRow) -> None:
        """Write a start-up barrier, and commit.

        Raises:
            LedgerError: it cannot be written.
        """
        fields = (row.id, row.client, " ".join(row.gpus), " ".join(row.leases), row.ends_s)
        self._write("INSERT OR REPLACE INTO startup VALUES (?, ?, ?, ?, ?)", fields)

    def remove_startup(self, startup_id: str) -> None:
        """Take a start-up barrier out, and commit.

        Raises:
            LedgerError: it cannot be written.
        """
        self._write("DELETE FROM startup WHERE id = ?", (startup_id,))

    @property
    def log_bytes(self) -> int:
        """Size of the write-ahead log."""
        try:
            return self.path.with_name(self.path.name + "-wal").stat().st_size
        except OSError:
            return 0

    def checkpoint(self) -> None:
        """Move the log into the database; called by another thread than the writes are.

        It never makes a commit wait: what is committed meanwhile stays in the log for the next one.

        Raises:
            LedgerError: it cannot be done.
        """
        with self._checkpointing:
            if not self._open:
                return
            self._at("checkpoint.before")
            try:
                db = self._connect("NORMAL")
                try:
                    db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
                finally:
                    db.close()
            except sqlite3.Error as error:
                raise LedgerError(f"{self.path}: the log cannot be moved into the database: {error}") from None
            self._at("checkpoint.after")

    def shorten(self) -> None:
        """Move the rest of the log without waiting for the disk, when busy times kept `checkpoint` from its end."""
        if self.log_bytes > self._max_bytes // 4:
            self._db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()

    def close(self) -> None:
        """Close the files and let another arbiter have them."""
        with self._checkpointing:
            self._open = False
            self._db.close()
            self._lock.close()

    def _connect(self, synchronous: str) -> sqlite3.Connection:
        # A commit waits for nobody: there is one writer, and a checkpoint needs no lock that stops it.
        db = sqlite3.connect(
            self.path, isolation_level=None, timeout=1.0, cached_statements=32, check_same_thread=False
        )
        db.execute(f"PRAGMA page_size={_PAGE_BYTES}")
        db.execute("PRAGMA journal_mode=WAL")
        db.execute(f"PRAGMA synchronous={synchronous}")
        db.execute("PRAGMA wal_autocheckpoint=0")
        db.execute(f"PRAGMA max_page_count={max(16, self._max_bytes // _PAGE_BYTES)}")
        return db

    def _write(self, statement: str, fields: tuple[object, ...]) -> None:
        """Run one statement, which SQLite commits by itself."""
        self._at("write.before")
        try:
            self._db.execute(statement, fields)
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_WRITE):
                raise LedgerFullError(
                    f"{self.path}: no room for another row: {error}; make room on the disk, or raise ledger_max_bytes"
                ) from None
            raise LedgerError(f"{self.path}: cannot be written: {error}") from None
        except sqlite3.Error as error:
            raise LedgerError(f"{self.path}: cannot be written: {error}") from None
        self._at("write.after")


def _locked(path: Path) -> IO[str]:
    lock = path.open("a")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.close()
        raise LedgerError(
            f"{path.parent}: another arbiter uses this ledger; stop it, or give this one its own state_dir"
        ) from None
    return lock


def _void(folder: Path, ours: Path) -> int:
    """Throw away ledgers of earlier boots, unread, and return how many there were."""
    others: Iterable[Path] = [path for path in folder.glob("ledger-*.sqlite") if path != ours]
    voided = 0
    for path in others:
        voided += 1
        for end in ("", "-wal", "-shm"):
            path.with_name(path.name + end).unlink(missing_ok=True)
    return voided


def _numbers(text: str) -> frozenset[int]:
    return frozenset(map(int, text.split()))
