"""SQLite files that outlive a version: whose a file is, which form it has, and the steps from there to ours."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass

__all__ = ["FileForm", "FormError"]


class FormError(Exception):
    """A file is somebody else's, or of a newer version; the message is the end of a line that names the file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FileForm:
    """The form of one kind of file.

    Args:
        application: its `PRAGMA application_id`, which tells it from any other SQLite database.
        steps: statements, with semicolons between them, from each version to the next; their number is the newest
            version, kept as `PRAGMA user_version`.
        unmarked: tables by which a file is known that was written before there was an `application`.
    """

    application: int
    steps: tuple[str, ...]
    unmarked: frozenset[str] = frozenset()

    @property
    def version(self) -> int:
        """The newest version, which is ours."""
        return len(self.steps)

    def check(self, sql: sqlite3.Connection) -> None:
        """See that a file is empty, or one of ours; it is only read.

        Raises:
            FormError: it is somebody else's, or newer.
            sqlite3.Error: it cannot be read.
        """
        version, application = _marks(sql)
        tables = {name for (name,) in sql.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}
        before_marks = not (application or version) and tables <= self.unmarked
        if application != self.application and not before_marks:
            raise FormError("is a database of something else; move it away, or name another file")
        if version > self.version:
            raise FormError(
                f"was written by a newer Headrace (schema {version}, this one knows {self.version});"
                " start that one, or put a backup of before in its place"
            )

    def bring(self, sql: sqlite3.Connection) -> None:
        """Bring a file that was checked to our version, whole or not at all.

        Args:
            sql: a connection that begins no transactions by itself.

        Raises:
            sqlite3.Error: it cannot be written.
        """
        if _marks(sql) == (self.version, self.application):
            return
        sql.execute("BEGIN IMMEDIATE")
        try:
            # Another process may have been quicker.
            version, _ = _marks(sql)
            for step in self.steps[version:]:
                for statement in step.split(";"):
                    sql.execute(statement.strip())
            sql.execute(f"PRAGMA application_id = {self.application}")
            sql.execute(f"PRAGMA user_version = {self.version}")
            sql.execute("COMMIT")
        except BaseException:
            if sql.in_transaction:  # a full disk may have ended it already
                sql.execute("ROLLBACK")
            raise


def _marks(sql: sqlite3.Connection) -> tuple[int, int]:
    """Return a file's version and whose it says it is."""
    (version,) = sql.execute("PRAGMA user_version").fetchone()
    (application,) = sql.execute("PRAGMA application_id").fetchone()
    return int(version), int(application)
