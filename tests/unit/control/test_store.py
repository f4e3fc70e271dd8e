from __future__ import annotations

import os
import sqlite3
import stat
from pathlib import Path

import pytest

from control.schema import SCHEMA
from control.store import MEMORY, Store, StoreError
from streamkit.wire.keys import CLIENT_TOKENS, STREAM_IDS, Tenant, digest


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "below" / "control.db"


def made(path: Path) -> Store:
    return Store(path, create=True)


def test_a_key_is_kept_as_its_digest_and_nowhere_else(path: Path) -> None:
    with made(path) as store:
        new = store.create_key("acme", note="the phone app")
        (record,) = store.snapshot().keys
        assert (record.id, record.sha256, record.tenant) == (new.id, digest(new.key), "acme")
        (line,) = store.list_keys()
        assert (line.id, line.tenant, line.note, line.revoked_at) == (new.id, "acme", "the phone app", None)
    kept = b"".join(file.read_bytes() for file in path.parent.iterdir())
    assert digest(new.key).encode() in kept
    assert new.key.removeprefix("hr-").encode() not in kept
    assert bytes.fromhex(new.key.removeprefix("hr-")) not in kept


def test_nobody_else_may_read_the_file(path: Path) -> None:
    with made(path) as store:
        store.create_key("acme")
        for file in path.parent.iterdir():
            assert stat.S_IMODE(file.stat().st_mode) == 0o600, file


def test_keys_are_demanded_from_the_first_one_on_and_after_the_last_was_revoked(path: Path) -> None:
    with made(path) as store:
        assert store.snapshot().required is False
        assert store.snapshot(required=True).required is True
        new = store.create_key("acme")
        assert store.snapshot().required is True
        assert store.revoke_key(new.id) is True
        assert store.snapshot().keys == ()
        assert store.snapshot().required is True
        assert store.revoke_key(new.id) is False
        assert store.revoke_key("k-nonesuch") is False


def test_every_change_raises_the_version_and_nothing_else_does(path: Path) -> None:
    with made(path) as store:
        versions = [store.snapshot().version]
        new = store.create_key("acme")
        versions.append(store.snapshot().version)
        store.put_tenant(Tenant(name="acme", max_streams=3))
        versions.append(store.snapshot().version)
        store.rotate_secret(CLIENT_TOKENS)
        versions.append(store.snapshot().version)
        store.revoke_key(new.id)
        versions.append(store.snapshot().version)
        assert versions == sorted(set(versions))
        store.revoke_key(new.id)
        store.list_keys()
    with Store(path) as store:
        assert store.snapshot().version == versions[-1]


def test_tenants_keep_their_settings_when_they_get_another_key(path: Path) -> None:
    acme = Tenant(name="acme", max_priority=4, requests_per_minute=60, tokens_per_minute=9, max_streams=2)
    with made(path) as store:
        store.create_key(acme)
        store.create_key("acme")
        store.create_key("other")
        assert store.snapshot().tenants == (acme, Tenant(name="other"))
        assert store.tenant("acme") == acme
        assert store.tenant("nonesuch") is None


def test_secrets_are_made_once_and_change_only_when_told(path: Path) -> None:
    with made(path) as store:
        first = store.snapshot().secrets
        assert set(first) == {CLIENT_TOKENS, STREAM_IDS}
        assert all(len(bytes.fromhex(secret)) == 32 for secret in first.values())
    with Store(path) as store:
        assert store.snapshot().secrets == first
        store.rotate_secret(CLIENT_TOKENS)
        second = store.snapshot().secrets
    assert second[STREAM_IDS] == first[STREAM_IDS]
    assert second[CLIENT_TOKENS] != first[CLIENT_TOKENS]


def test_another_process_s_change_is_seen_once(path: Path) -> None:
    with made(path) as store, Store(path) as other:
        store.changed()
        assert store.changed() is False
        other.create_key("acme")
        assert store.changed() is True
        assert store.changed() is False
        assert len(store.snapshot().keys) == 1


def test_a_backup_is_a_whole_store(path: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy.db"
    with made(path) as store:
        kept = store.create_key("acme")
        store.backup(copy)
        assert stat.S_IMODE(copy.stat().st_mode) == 0o600
        with pytest.raises(StoreError, match=r"copy\.db: cannot be written: File exists"):
            store.backup(copy)
        store.create_key("acme")
        before = store.snapshot()
        with Store(copy) as other:
            assert [record.id for record in other.snapshot().keys] == [kept.id]
            assert other.snapshot().secrets == before.secrets
        # In the store's place it is not used before a restart: a journal of the other file may lie beside it.
        copy.replace(path)
        with pytest.raises(StoreError, match="another file was put in its place"):
            store.changed()


def test_a_store_that_went_away_is_told_and_not_made_anew(path: Path) -> None:
    with made(path) as store:
        store.create_key("acme")
        aside = path.rename(path.with_suffix(".aside"))
        with pytest.raises(StoreError, match="No such file"):
            store.changed()
        assert not path.exists()
        aside.rename(path)
        assert store.changed() in (True, False)
        assert len(store.snapshot().keys) == 1


def test_what_is_no_store_is_refused_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "control.db"
    for content, words in (
        (b"not a database, and long enough to be looked at" * 100, "is damaged, or no key store"),
        (None, "Is a directory"),
    ):
        if content is None:
            path.unlink()
            path.mkdir()
        else:
            path.write_bytes(content)
        with pytest.raises(StoreError, match=words) as caught:
            Store(path, create=True)
        assert str(path) in str(caught.value)
        assert "\n" not in str(caught.value)
    with pytest.raises(StoreError, match="No such file"):
        Store(tmp_path / "none.db")


def test_a_database_of_something_else_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "theirs.db"
    with sqlite3.connect(path) as theirs:
        theirs.execute("CREATE TABLE photos (id)")
    theirs.close()
    before = path.read_bytes()
    with pytest.raises(StoreError, match="of something else"):
        Store(path, create=True)
    assert path.read_bytes() == before


def test_a_newer_schema_is_refused(path: Path) -> None:
    made(path).close()
    with sqlite3.connect(path) as newer:
        newer.execute(f"PRAGMA user_version = {SCHEMA + 1}")
    newer.close()
    with pytest.raises(StoreError, match=f"newer Headrace .schema {SCHEMA + 1}"):
        Store(path)


def test_a_lock_is_waited_for_and_then_told(path: Path) -> None:
    with made(path) as store, Store(path, busy_ms=20) as other:
        store._sql.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreError, match="keeps it locked"):
            other.create_key("acme")
        assert other.snapshot().keys == (), "readers do not wait for a writer"
        store._sql.execute("ROLLBACK")
        other.create_key("acme")


def test_a_full_disk_changes_nothing(path: Path) -> None:
    with made(path) as store:
        store.create_key("acme")
        before = store.snapshot()
        (pages,) = store._sql.execute("PRAGMA page_count").fetchone()
        store._sql.execute(f"PRAGMA max_page_count = {pages}")
        with pytest.raises(StoreError, match="the disk is full; nothing was changed"):
            store.create_key("acme", note="x" * 100_000)
        assert store.snapshot() == before
        assert len(store.list_keys()) == 1


def test_memory_is_a_store_too() -> None:
    with Store(MEMORY, create=True) as store:
        store.create_key("acme")
        assert store.changed() is False
        assert len(store.snapshot().keys) == 1


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everything")
def test_a_file_that_may_not_be_written_is_told(path: Path) -> None:
    made(path).close()
    path.chmod(0o400)
    with pytest.raises(StoreError, match="Permission denied"):
        Store(path)
