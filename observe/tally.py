"""What was used: tokens, streams and slot time for each hour, payer, model and backend, in one SQLite file.

Where the reading of events stands is in the same transaction as what they added, so that no event counts twice and
none is left out, whatever ends this process. Calls block; they are made on one thread.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, NamedTuple

from observe.spans import HOUR_MS, held_ms, hours, slots
from observe.totals import Totals
from streamkit.ops.file_form import FileForm
from streamkit.wire.telemetry import Event, Spent

__all__ = ["Hourly", "LeaseHour", "Tally"]

#: Tokens of one stream; an engine that claims more must not overflow what it is added to.
_MOST: Final = 1 << 40
_ENDED: Final = frozenset({"RELEASED", "RECLAIMED", "UNLEASED"})
_TABLES: Final = """
CREATE TABLE IF NOT EXISTS used (
    hour INTEGER NOT NULL, tenant TEXT NOT NULL, key TEXT NOT NULL, model TEXT NOT NULL, backend TEXT NOT NULL,
    streams INTEGER NOT NULL, prompt INTEGER NOT NULL, completion INTEGER NOT NULL, slot_ms INTEGER NOT NULL,
    PRIMARY KEY (hour, tenant, key, model, backend)
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS leased (
    hour INTEGER NOT NULL, backend TEXT NOT NULL, gpu_ms INTEGER NOT NULL, PRIMARY KEY (hour, backend)
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS held (
    host TEXT NOT NULL, lease TEXT NOT NULL, backend TEXT NOT NULL, since_ms INTEGER NOT NULL,
    PRIMARY KEY (host, lease)
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS latest (
    site TEXT PRIMARY KEY, at_ms INTEGER NOT NULL, floor_ms INTEGER NOT NULL DEFAULT 0
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS place (stream TEXT PRIMARY KEY, sequence INTEGER NOT NULL) STRICT, WITHOUT ROWID
"""
#: The first files had no version, and some of them not all tables.
_FORM: Final = FileForm(application=0x48645475, steps=(_TABLES,))  # "HdTu"


class Hourly(NamedTuple):
    """What one payer used of one model at one backend in one hour."""

    hour: int  #: hours since 1970 (UTC)
    tenant: str
    key: str  #: empty = no key was needed
    model: str
    backend: str  #: empty = no backend was reached
    streams: int
    prompt: int
    completion: int
    slot_ms: int


class LeaseHour(NamedTuple):
    """How long a backend held GPUs in one hour, one lease on one GPU counting once."""

    hour: int
    backend: str
    gpu_ms: int


class Tally:
    """The file, open.

    Args:
        path: of the file; its folder is there.

    Raises:
        FormError: it is another program's, or of a newer version.
        sqlite3.Error: it cannot be used.
    """

    def __init__(self, path: Path) -> None:
        self._sql = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        try:
            _FORM.check(self._sql)
            self._sql.execute("PRAGMA journal_mode = WAL")
            self._sql.execute("PRAGMA synchronous = NORMAL")
            _FORM.bring(self._sql)
        except BaseException:
            self._sql.close()
            raise
        self._totals: Totals | None = None

    def close(self) -> None:
        """Close the file."""
        self._sql.close()

    def place(self, stream: str) -> int:
        """Return the sequence up to which a stream was counted; 0 = none of it."""
        row = self._sql.execute("SELECT sequence FROM place WHERE stream = ?", (stream,)).fetchone()
        return 0 if row is None else int(row[0])

    def forget(self, stream: str, now_ms: int) -> None:
        """Read a stream from its beginning: it was made anew, and counts from one again.

        A hub's new stream gathers what its sites still keep once more, so nothing counts that is not newer than the
        newest event that was counted of its site; nor than now, for a clock that was once ahead must not have
        everything of its site passed over until then.

        Args:
            stream: which one.
            now_ms: milliseconds since 1970.
        """
        with self._transaction() as sql:
            sql.execute("DELETE FROM place WHERE stream = ?", (stream,))
            sql.execute("UPDATE latest SET floor_ms = min(at_ms, ?)", (now_ms,))

    def count(self, stream: str, events: Sequence[tuple[int, Event]]) -> None:
        """Add events, all or none; those that were added before are left out.

        Args:
            stream: where they are from.
            events: with their sequences, rising.
        """
        with self._transaction() as sql:
            before = self.place(stream)
            floors = dict(sql.execute("SELECT site, floor_ms FROM latest").fetchall())
            new = [
                event for sequence, event in events if sequence > before and event.at_ms > floors.get(event.site, 0)
            ]
            for event in new:
                self._add(sql, event)
            latest: dict[str, int] = {}
            for event in new:
                latest[event.site] = max(event.at_ms, latest.get(event.site, 0))
            sql.executemany(
                "INSERT INTO latest (site, at_ms) VALUES (?, ?)"
                " ON CONFLICT DO UPDATE SET at_ms = max(at_ms, excluded.at_ms)",
                latest.items(),
            )
            last = max([before, *(sequence for sequence, _ in events)])
            sql.execute("INSERT OR REPLACE INTO place VALUES (?, ?)", (stream, last))
        for event in new:
            if event.kind == "stream.end" and self._totals is not None:
                fields = event.fields
                tokens = _count(fields, "prompt_tokens") + _count(fields, "completion_tokens")
                payer = (_text(fields, "tenant"), _text(fields, "key_id"))
                self._totals.add(event.at_ms // HOUR_MS, *payer, tokens)

    def hourly(self, since_hour: int, until_hour: int) -> list[Hourly]:
        """Return what was used from one hour up to another, which is left out."""
        rows = self._sql.execute(
            "SELECT hour, tenant, key, model, backend, streams, prompt, completion, slot_ms FROM used"
            " WHERE hour >= ? AND hour < ? ORDER BY hour",
            (since_hour, until_hour),
        )
        return [Hourly(*row) for row in rows]

    def leased(self, since_hour: int, until_hour: int, now_ms: int) -> list[LeaseHour]:
        """Return how long backends held GPUs, leases that are open counted up to now."""
        found: dict[tuple[int, str], int] = {}
        rows: Iterable[tuple[int, str, int]] = self._sql.execute(
            "SELECT hour, backend, gpu_ms FROM leased WHERE hour >= ? AND hour < ?", (since_hour, until_hour)
        )
        opened = self._sql.execute("SELECT backend, since_ms FROM held").fetchall()
        parts = ((hour, name, ms) for name, since_ms in opened for hour, ms in hours(since_ms, now_ms))
        for hour, backend, ms in (*rows, *parts):
            if since_hour <= hour < until_hour:
                found[hour, backend] = found.get((hour, backend), 0) + ms
        return [LeaseHour(*key, ms) for key, ms in sorted(found.items())]

    def spent(self, now: datetime) -> list[Spent]:
        """Return the tokens of every payer that used any this month; quick, but for the first call of a day."""
        in_utc = now.astimezone(UTC)
        today = int(in_utc.replace(hour=0, minute=0, second=0, microsecond=0).timestamp()) // 3_600
        if self._totals is None or self._totals.today != today:
            first = int(in_utc.replace(day=1, hour=0, minute=0, second=0, microsecond=0).timestamp()) // 3_600
            self._totals = Totals(today, first)
            rows = self._sql.execute(
                "SELECT hour, tenant, key, sum(prompt + completion) FROM used WHERE hour >= ?"
                " GROUP BY hour, tenant, key",
                (first,),
            )
            for hour, tenant, key, tokens in rows:
                self._totals.add(hour, tenant, key, tokens)
        return self._totals.spent()

    def drop_before(self, hour: int) -> None:
        """Forget what is older."""
        with self._transaction() as sql:
            sql.execute("DELETE FROM used WHERE hour < ?", (hour,))
            sql.execute("DELETE FROM leased WHERE hour < ?", (hour,))

    def _add(self, sql: sqlite3.Connection, event: Event) -> None:
        fields = event.fields
        if event.kind == "stream.end":
            self._add_stream(sql, event)
        elif event.kind == "lease.restored":
            self._restored(sql, event)
        elif event.kind == "lease.granted":
            row = (_text(fields, "host"), _text(fields, "lease"), _text(fields, "client"), event.at_ms)
            sql.execute("INSERT OR IGNORE INTO held VALUES (?, ?, ?, ?)", row)
        elif event.kind.startswith("lease.") and fields.get("state") in _ENDED:
            self._ended(sql, _text(fields, "host"), _text(fields, "lease"), event.at_ms, held_ms(fields))

    def _add_stream(self, sql: sqlite3.Connection, event: Event) -> None:
        """Add a stream and its tokens to the hour of its end, its slots to the hours that they were held in."""
        fields, served = event.fields, _text(event.fields, "backend")
        payer = (_text(fields, "tenant"), _text(fields, "key_id"), _text(fields, "served_model") or "-")
        tokens = (_count(fields, "prompt_tokens"), _count(fields, "completion_tokens"))
        figures = {(event.at_ms // HOUR_MS, served): [1, *tokens, 0]}
        for slot in slots(event):
            for hour, ms in hours(slot.since_ms, slot.until_ms):
                figures.setdefault((hour, slot.backend), [0, 0, 0, 0])[-1] += ms
        sql.executemany(
            "INSERT INTO used VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET"
            " streams = streams + excluded.streams, prompt = prompt + excluded.prompt,"
            " completion = completion + excluded.completion, slot_ms = slot_ms + excluded.slot_ms",
            [(hour, *payer, backend, *found) for (hour, backend), found in figures.items()],
        )

    def _restored(self, sql: sqlite3.Connection, event: Event) -> None:
        """End what an arbiter that was started anew does not know any more."""
        host, known = _text(event.fields, "host"), set(event.fields.get("leases") or ())
        for (lease,) in sql.execute("SELECT lease FROM held WHERE host = ?", (host,)).fetchall():
            if lease not in known:
                self._ended(sql, host, lease, event.at_ms)

    def _ended(self, sql: sqlite3.Connection, host: str, lease: str, at_ms: int, known_ms: int | None = None) -> None:
        """Add a lease that is over to its hours; the wall clock tells how long it was where its arbiter does not."""
        row = sql.execute(
            "DELETE FROM held WHERE host = ? AND lease = ? RETURNING backend, since_ms", (host, lease)
        ).fetchone()
        if row is None:
            return
        backend, since_ms = row
        for hour, ms in hours(since_ms if known_ms is None else at_ms - known_ms, at_ms):
            sql.execute(
                "INSERT INTO leased VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET gpu_ms = gpu_ms + excluded.gpu_ms",
                (hour, backend, ms),
            )

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        self._sql.execute("BEGIN IMMEDIATE")
        try:
            yield self._sql
            self._sql.execute("COMMIT")
        except BaseException:
            if self._sql.in_transaction:  # a full disk may have ended it already
                self._sql.execute("ROLLBACK")
            raise


def _text(fields: dict[str, Any], name: str) -> str:
    value = fields.get(name)
    return value[:256] if isinstance(value, str) else ""


def _count(fields: dict[str, Any], name: str) -> int:
    value = fields.get(name)
    return min(_MOST, max(0, int(value))) if isinstance(value, int | float) else 0
