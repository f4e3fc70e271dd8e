"""Whose a file is, and the way from an older form to ours."""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path

import pytest

from streamkit.ops.file_form import FileForm, FormError

FIRST = "CREATE TABLE a (x INTEGER)"
SECOND = "ALTER TABLE a ADD COLUMN y INTEGER NOT NULL DEFAULT 7; INSERT INTO a (x) VALUES (3)"
BROKEN = "INSERT INTO a (x) VALUES (4); CREATE TABLE a (z INTEGER)"


def opened(path: Path) -> contextlib.closing[sqlite3.Connection]:
    return contextlib.closing(sqlite3.connect(path, isolation_level=None))


def brought(path: Path, *steps: str, unmarked: frozenset[str] = frozenset()) -> None:
    found = FileForm(application=5, steps=steps, unmarked=unmarked)
    with opened(path) as sql:
        found.check(sql)
        found.bring(sql)


def test_steps_are_done_once_each_in_order(tmp_path: Path):
    path = tmp_path / "a.db"
    brought(path, FIRST)
    brought(path, FIRST, SECOND)
    brought(path, FIRST, SECOND)
    with opened(path) as sql:
        assert sql.execute("SELECT x, y FROM a").fetchall() == [(3, 7)]
        assert sql.execute("PRAGMA user_version").fetchone() == (2,)


def test_a_step_that_fails_leaves_the_file_as_it_was(tmp_path: Path):
    path = tmp_path / "a.db"
    brought(path, FIRST)
    with pytest.raises(sqlite3.OperationalError, match="already exists"):
        brought(path, FIRST, BROKEN)
    with opened(path) as sql:
        assert sql.execute("SELECT * FROM a").fetchall() == []
        assert sql.execute("PRAGMA user_version").fetchone() == (1,)
    brought(path, FIRST, SECOND)


def test_a_file_of_before_the_mark_is_known_by_its_tables(tmp_path: Path):
    path = tmp_path / "a.db"
    with opened(path) as sql:
        sql.execute(FIRST)
    step = FIRST.replace("TABLE", "TABLE IF NOT EXISTS")
    with pytest.raises(FormError, match="something else"):
        brought(path, step)
    brought(path, step, unmarked=frozenset({"a", "b"}))
    brought(path, step)
