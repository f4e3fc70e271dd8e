"""`headrace backup`, while both owners have their files open; and what is restored from it is what was there."""

from __future__ import annotations

import shutil
import stat
from pathlib import Path

import pytest

from control.store import Store
from core_gpu.arbiter.clocks import Clocks
from core_gpu.arbiter.ids import LeaseIds, key_of
from core_gpu.arbiter.lease import Lease
from core_gpu.arbiter.ledger import Ledger
from launch.cli import main
from observe.tally import Tally
from streamkit.wire.telemetry import Event

CONFIG = """
[control]
store_path = "{folder}/control.db"
[arbiter]
state_dir = "{folder}/arbiter"
[observe]
state_dir = "{folder}/observe"
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "headrace.toml"
    path.write_text(CONFIG.format(folder=tmp_path))
    return path


def told(capsys: pytest.CaptureFixture[str], *argv: str) -> tuple[int, str, str]:
    status = main(["backup", *argv])
    out, err = capsys.readouterr()
    return status, out, err


def test_what_is_restored_is_what_was_there(capsys, config: Path, tmp_path: Path):
    arbiter = tmp_path / "arbiter"
    clocks = Clocks.system()
    store = Store(tmp_path / "control.db", create=True)
    made = store.create_key("acme")
    ledger = Ledger(arbiter, clocks)
    lease_id = LeaseIds(key_of(arbiter / "lease-ids.key")).new()
    now = clocks.monotonic()
    ledger.put(Lease(lease_id, "vllm", "qwen", "GPU-0", 9_000, 2, 30.0, now + 30.0, now))
    observe = tmp_path / "observe"
    observe.mkdir()
    tally = Tally(observe / "usage.db")
    used = {"tenant": "acme", "key_id": made.id, "served_model": "m", "backend": "gpu0", "completion_tokens": 42}
    tally.count(
        "EVENTS", [(1, Event(id="e-1", kind="stream.end", site="here", source="edge", at_ms=3_600_000, fields=used))]
    )
    (observe / "positions.json").write_text("{}")
    # Nothing was merged into the files yet: a copy of them alone would hold neither.
    assert Path(f"{ledger.path}-wal").stat().st_size > 0

    status, out, _ = told(capsys, str(tmp_path / "backup"), "--config", str(config))
    assert status == 0
    names = {path.name for path in (tmp_path / "backup").iterdir()}
    assert names == {"control.db", ledger.path.name, "lease-ids.key", "usage.db", "positions.json"}
    assert all(name in out for name in names)
    assert {stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "backup").iterdir()} == {0o600}

    # Made after the backup, so not in it.
    store.create_key("late")
    store.close()
    ledger.close()
    tally.close()
    for path in tmp_path.glob("control.db*"):
        path.unlink()
    shutil.rmtree(arbiter)

    # As docs/operations/backup.md says it.
    shutil.copy(tmp_path / "backup" / "control.db", tmp_path / "control.db")
    observe = tmp_path / "new"
    observe.mkdir()
    shutil.copy(tmp_path / "backup" / "usage.db", observe)
    restored = Tally(observe / "usage.db")
    assert [(row.tenant, row.key, row.completion) for row in restored.hourly(1, 2)] == [("acme", made.id, 42)]
    assert restored.place("EVENTS") == 1
    restored.close()
    arbiter.mkdir()
    shutil.copy(tmp_path / "backup" / ledger.path.name, arbiter)
    shutil.copy(tmp_path / "backup" / "lease-ids.key", arbiter)
    with Store(tmp_path / "control.db") as again:
        assert [line.id for line in again.list_keys()] == [made.id]
    found = Ledger(arbiter, clocks)
    (lease,) = found.restored().leases
    assert (lease.id, lease.reserved_mb) == (lease_id, 9_000)
    assert LeaseIds(key_of(arbiter / "lease-ids.key")).issued(lease_id)
    found.close()


def test_a_damaged_store_makes_no_backup(capsys, config: Path, tmp_path: Path):
    (tmp_path / "control.db").write_bytes(b"no database" * 100)
    status, _, err = told(capsys, str(tmp_path / "backup"), "--config", str(config))
    assert status == 2
    assert "control.db: cannot be copied: file is not a database" in err


def test_a_folder_that_is_in_use_is_left_alone(capsys, config: Path, tmp_path: Path):
    Store(tmp_path / "control.db", create=True).close()
    (tmp_path / "backup").mkdir()
    (tmp_path / "backup" / "other").write_text("mine")
    status, _, err = told(capsys, str(tmp_path / "backup"), "--config", str(config))
    assert status == 2
    assert "is not empty" in err
    assert [path.name for path in (tmp_path / "backup").iterdir()] == ["other"]


def test_where_there_is_nothing_it_says_where_it_looked(capsys, config: Path, tmp_path: Path):
    status, _, err = told(capsys, str(tmp_path / "backup"), "--config", str(config))
    assert status == 2
    assert f"no key store at {tmp_path}/control.db" in err
