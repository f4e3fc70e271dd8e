"""Files that outlive a version: what an earlier one left is used, and no form changes without anybody's noticing.

`tests/vectors/stored` has files of earlier versions as SQL, made by running those versions.
"""

from __future__ import annotations

import contextlib
import re
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from control.schema import SCHEMA, StoreError
from control.store import Store
from core_gpu.arbiter.clocks import Clocks
from core_gpu.arbiter.ledger import Ledger, LedgerError
from observe.tally import Tally
from streamkit.ops.file_form import FormError
from streamkit.wire.telemetry import Event

STORED = Path(__file__).parents[2] / "vectors/stored"


def left(name: str, path: Path) -> Path:
    """Make the file that an earlier version left."""
    with contextlib.closing(sqlite3.connect(path)) as sql:
        sql.executescript((STORED / name).read_text())
    return path


def forms() -> dict[str, str]:
    """Return the forms that are known, by file."""
    parts = (STORED / "forms.txt").read_text().removesuffix("\n").split("\n\n")
    return {name: f"{text.strip()}\n" for name, _, text in (part.partition(": ") for part in parts) if name}


def form(path: Path) -> str:
    """Return a file's tables and version."""
    with contextlib.closing(sqlite3.connect(path)) as sql:
        (version,) = sql.execute("PRAGMA user_version").fetchone()
        tables = [
            text for (text,) in sql.execute("SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL ORDER BY name")
        ]
    return "\n".join([f"version {version}", *(re.sub(r"\s+", " ", text) for text in tables)]) + "\n"


def test_keys_of_the_first_version_are_still_keys(tmp_path: Path):
    path = left("control-1.sql", tmp_path / "control.db")
    with Store(path) as store:
        (key,) = store.list_keys()
        snapshot = store.snapshot()
        store.set_budget(key.id, tokens_per_day=5, tokens_per_month=0)
    assert (key.tenant, key.revoked_at, key.tokens_per_day) == ("acme", None, 0)
    assert snapshot.required
    assert [found.sha256 for found in snapshot.keys] == re.findall(
        r"'([0-9a-f]{64})'", (STORED / "control-1.sql").read_text()
    )
    # Client tokens and stream ids of before are good afterwards.
    assert snapshot.secrets["stream-ids"].upper() in (STORED / "control-1.sql").read_text()
    assert form(path).startswith(f"version {SCHEMA}\n")


def test_what_the_first_version_counted_is_added_to(tmp_path: Path):
    path = left("usage-1.sql", tmp_path / "usage.db")
    tally = Tally(path)
    with contextlib.closing(tally):
        (row,) = tally.hourly(0, 1 << 40)
        assert (row.tenant, row.streams, row.prompt, row.completion) == ("acme", 3, 30, 15)
        assert tally.place("EVENTS") == 5
        fields = {"tenant": "acme", "key_id": row.key, "served_model": row.model, "backend": row.backend}
        events = [
            Event(
                id=f"a-{n}-{n}",
                kind="stream.end",
                site="vm",
                source="edge",
                at_ms=row.hour * 3_600_000 + n,
                fields=fields,
            )
            for n in (5, 6)
        ]
        tally.count("EVENTS", [(5, events[0]), (6, events[1])])
        assert [each.streams for each in tally.hourly(0, 1 << 40)] == [4], "the fifth was counted before"


def test_a_lease_of_the_version_before_is_held_on(tmp_path: Path):
    """An arbiter is upgraded within a boot; what it lends stays lent."""
    left("ledger-1.sql", tmp_path / "ledger-here.sqlite")
    ledger = Ledger(tmp_path, Clocks(monotonic=lambda: 3_100.0, boot="here"))
    with contextlib.closing(ledger):
        (lease,) = ledger.restored().leases
        assert (lease.client, lease.reserved_mb, lease.pids) == ("held", 1_000, {1})
        assert lease.expires_s == pytest.approx(3_969.7, abs=0.1)
        ledger.put(lease)
    assert form(tmp_path / "ledger-here.sqlite") == forms()["ledger-here.sqlite"]


def open_store(folder: Path) -> None:
    Store(folder / "control.db", create=True).close()


def open_tally(folder: Path) -> None:
    Tally(folder / "usage.db").close()


def open_ledger(folder: Path) -> None:
    Ledger(folder, Clocks(boot="here")).close()


KINDS = pytest.mark.parametrize(
    ("open_it", "name"),
    [(open_store, "control.db"), (open_tally, "usage.db"), (open_ledger, "ledger-here.sqlite")],
)


@KINDS
def test_a_newer_file_is_refused_and_left_as_it_is(open_it: Callable[[Path], None], name: str, tmp_path: Path):
    open_it(tmp_path)
    with contextlib.closing(sqlite3.connect(tmp_path / name)) as sql:
        (version,) = sql.execute("PRAGMA user_version").fetchone()
        sql.execute(f"PRAGMA user_version = {version + 1}")
    before = (tmp_path / name).read_bytes()
    words = rf"written by a newer Headrace .schema {version + 1}, this one knows {version}.; start that one"
    with pytest.raises((StoreError, FormError, LedgerError), match=words):
        open_it(tmp_path)
    assert (tmp_path / name).read_bytes() == before


@KINDS
@pytest.mark.parametrize(
    "marked", ["CREATE TABLE photos (id)", "PRAGMA application_id = 7", "PRAGMA user_version = 1"]
)
def test_a_file_of_something_else_is_refused_and_left_as_it_is(
    open_it: Callable[[Path], None], name: str, marked: str, tmp_path: Path
):
    with contextlib.closing(sqlite3.connect(tmp_path / name)) as sql:
        sql.execute(marked)
    before = (tmp_path / name).read_bytes()
    for _ in range(2):  # what refused it holds no lock on it
        with pytest.raises((StoreError, FormError, LedgerError), match="of something else; move it away"):
            open_it(tmp_path)
    assert (tmp_path / name).read_bytes() == before
    assert not (tmp_path / f"{name}-wal").exists()


def test_a_tally_with_half_of_its_tables_gets_the_rest(tmp_path: Path):
    path = left("usage-1.sql", tmp_path / "usage.db")
    Tally(path).close()
    assert form(path) == forms()["usage.db"]


def test_no_form_changes_unseen(tmp_path: Path):
    """Tables are made where there are none: a changed one would be made by nobody, and fail at the first use.

    After a change: a step from every earlier form, with its version; such a file here, and a test that uses it; then
    the new form in forms.txt.
    """
    Store(tmp_path / "control.db", create=True).close()
    Tally(tmp_path / "usage.db").close()
    Ledger(tmp_path, Clocks(boot="here")).close()
    found = "".join(f"{path.name}: {form(path)}\n" for path in sorted(tmp_path.glob("*.*")) if path.suffix != ".lock")
    assert found == (STORED / "forms.txt").read_text(), found
