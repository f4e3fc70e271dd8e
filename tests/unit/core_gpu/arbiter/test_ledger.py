"""The ledger: boots, clocks, full disks, damage, and one owner."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from core_gpu.arbiter.clocks import Clocks, boot_id
from core_gpu.arbiter.lease import Granted, Lease, Reason, Refused
from core_gpu.arbiter.ledger import Ledger, LedgerError, LedgerFullError
from streamkit.flow.clock import ManualClock
from tests.unit.core_gpu.arbiter.rig import Rig


class Times:
    """Clocks of one machine; the wall clock may be set."""

    def __init__(self) -> None:
        self.monotonic = ManualClock(100.0)
        self.set_s = 1_700_000_000.0

    def clocks(self, boot: str) -> Clocks:
        return Clocks(self.monotonic, lambda: self.set_s + self.monotonic(), boot)


def lease(number: int, now: float = 100.0, ttl_s: float = 30.0, **fields) -> Lease:
    return Lease(f"lease-{number}", "c", "m", "GPU-0", 1_000, 2, ttl_s, now + ttl_s, now, **fields)


def test_a_lease_comes_back_as_it_went(tmp_path: Path):
    times = Times()
    whole = lease(1, exclusive_group="g", preemptible=True, pids=frozenset({3, 1}), loaded=True)
    first = Ledger(tmp_path, times.clocks("a"))
    first.put(whole)
    first.put(lease(2))
    first.remove("lease-2")
    first.close()
    second = Ledger(tmp_path, times.clocks("a"))
    (found,) = second.restored().leases
    second.close()
    for name in Lease.__slots__:
        if name != "since_s":
            assert getattr(found, name) == getattr(whole, name), name


@pytest.mark.parametrize("jump", [-86_400, 0, 86_400])
def test_within_a_boot_a_jump_of_the_wall_clock_changes_nothing(tmp_path: Path, jump: float):
    times = Times()
    first = Ledger(tmp_path, times.clocks("a"))
    first.put(lease(1))
    first.close()
    times.monotonic.advance(10)
    times.set_s += jump
    second = Ledger(tmp_path, times.clocks("a"))
    assert second.restored().leases[0].expires_s - times.monotonic() == pytest.approx(20)
    second.close()


@pytest.mark.parametrize(("jump", "left"), [(0, 20), (5, 15), (86_400, 0), (-86_400, 30)])
def test_where_boots_have_no_names_the_wall_clock_decides_within_the_ttl(tmp_path: Path, jump: float, left: float):
    times = Times()
    first = Ledger(tmp_path, times.clocks(""))
    first.put(lease(1))
    first.close()
    times.monotonic.advance(10)
    times.set_s += jump
    second = Ledger(tmp_path, times.clocks(""))
    assert second.restored().leases[0].expires_s - times.monotonic() == pytest.approx(left, abs=1e-3)
    second.close()


def test_another_boot_voids_the_ledger_unread(tmp_path: Path):
    times = Times()
    first = Ledger(tmp_path, times.clocks("a"))
    first.put(lease(1))
    first.close()
    first.path.write_bytes(b"torn by a power loss")
    second = Ledger(tmp_path, times.clocks("b"))
    found = second.restored()
    assert (found.leases, found.voided) == ((), 1)
    assert not first.path.exists()
    second.close()


def test_this_machine_names_its_boots():
    assert boot_id() == boot_id()
    assert Clocks.system().boot == boot_id()


def test_damage_is_told_and_nothing_is_overwritten(tmp_path: Path):
    path = tmp_path / "ledger-a.sqlite"
    path.write_bytes(b"not a database at all" * 100)
    with pytest.raises(LedgerError, match="move it away, and the arbiter starts from what it measures"):
        Ledger(tmp_path, Times().clocks("a"))
    assert path.read_bytes().startswith(b"not a database")


def test_one_owner(tmp_path: Path):
    first = Ledger(tmp_path, Times().clocks("a"))
    with pytest.raises(LedgerError, match="another arbiter uses this ledger"):
        Ledger(tmp_path, Times().clocks("a"))
    first.close()
    Ledger(tmp_path, Times().clocks("a")).close()


def full(folder: Path) -> tuple[Ledger, int]:
    ledger = Ledger(folder, Times().clocks("a"), max_bytes=65_536)
    for count in range(10_000):
        try:
            ledger.put(lease(count))
        except LedgerFullError as error:
            assert "no room for another row" in str(error)  # noqa: PT017  the count is needed as well
            return ledger, count
    raise AssertionError("it is never full")


def test_a_full_disk_refuses_writes_and_keeps_what_is_there(tmp_path: Path):
    ledger, count = full(tmp_path)
    assert count > 10
    assert len(ledger.restored().leases) == count
    for number in range(count // 2):
        ledger.remove(f"lease-{number}")
    ledger.put(lease(count + 1))
    ledger.close()
    again = Ledger(tmp_path, Times().clocks("a"), max_bytes=65_536)
    assert len(again.restored().leases) == count - count // 2 + 1
    again.close()
    assert sqlite3.connect(ledger.path).execute("PRAGMA integrity_check").fetchone() == ("ok",)


def told(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.message for record in caplog.records if record.message.startswith("ledger.")]


def test_a_full_disk_is_a_refusal_and_releases_and_reads_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    caplog.set_level("INFO")
    rig = Rig(tmp_path, 100_000)
    held = rig.grant("a", 1_000, ttl_s=600)

    def no_room(*_: object) -> None:
        raise LedgerFullError("no room for another row")

    with monkeypatch.context() as patch:
        patch.setattr(rig.ledger, "put", no_room)
        patch.setattr(rig.ledger, "remove", no_room)
        found = rig.ask("b", 1_000)
        assert isinstance(found, Refused)
        assert (found.code, found.reason) == (Reason.LEDGER, "no room for another row")
        assert found.retry_after_ms > 0
        assert rig.books.accounts["GPU-0"].reserved_mb == 1_000, "nothing was granted"
        assert isinstance(rig.arbiter.renew(held.id), Lease)
        assert rig.arbiter.release(held.id)
        assert not rig.books.leases
        rig.wait(0.1)
        rig.wait(0.1)
        assert told(caplog) == ["ledger.failed"], "once, however often it is tried"
    assert len(rig.ledger.restored().leases) == 1, "the release is not written yet"
    rig.wait(0.1)
    assert rig.ledger.restored().leases == (), "it is written as soon as it can be"
    assert told(caplog) == ["ledger.failed", "ledger.recovered"]
    assert isinstance(rig.ask("b", 1_000), Granted)
    rig.close()


def test_a_checkpoint_shortens_the_log_and_takes_nothing(tmp_path: Path):
    ledger = Ledger(tmp_path, Times().clocks("a"))
    for number in range(500):
        ledger.put(lease(number))
    before = ledger.log_bytes
    ledger.checkpoint()
    ledger.put(lease(501))
    assert ledger.log_bytes <= before, "the log is written from its beginning again"
    assert len(ledger.restored().leases) == 501
    ledger.close()
    ledger.checkpoint()
