"""Keys in a whole gateway: made and revoked on the file while services run, die and come back."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.exchange import Answer, ask, chat, stream
from tests.support.processes import until
from tests.support.rig import Rig, rig

ROOT = Path(__file__).parents[2]


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Rig]:
    # The fixture's folder is where the services run, so that `headrace keys` finds the store there by itself.
    with rig(tmp_path, {"alpha": {}}) as ours:
        yield ours


def keys(site: Rig, *arguments: str, status: int = 0) -> tuple[str, str]:
    """Run `headrace keys` as a person does, beside the services."""
    line = [sys.executable, "-m", "launch", "keys", *arguments]
    here = {"PYTHONPATH": str(ROOT)}
    run = subprocess.run(line, cwd=site.folder, env=here, capture_output=True, text=True, check=False)
    assert run.returncode == status, run.stderr
    return run.stdout.strip(), run.stderr.strip()


def created(site: Rig, *arguments: str) -> tuple[str, str]:
    """Return a new key and its id, once the edge knows it."""
    key, said = keys(site, "create", *arguments)
    until(lambda: asked(site).status == 401, what="the edge demands keys")
    until(lambda: asked(site, key).status == 200, what="and knows this one")
    return key, said.split()[0]


def asked(site: Rig, key: str = "", **headers: str) -> Answer:
    given = {"authorization": f"Bearer {key}"} if key else {}
    return site.post(chat(), {"x-sim": "tokens=2", **given, **headers})


def store(site: Rig) -> Path:
    return site.folder / ".headrace" / "7400" / "control.db"


def test_from_no_keys_to_the_first_to_the_last(site: Rig) -> None:
    assert asked(site).status == 200, "on loopback, without keys, everybody may ask"
    assert asked(site, "any").status == 200

    key, key_id = created(site, "--tenant", "acme", "--max-priority", "3")
    assert asked(site).status == 401
    assert asked(site, "any").status == 401
    assert asked(site, key[:-1]).status == 401
    assert ask(site.url, "/v1/models").status == 401
    assert ask(site.url, "/v1/models", headers={"authorization": f"Bearer {key}"}).status == 200
    answer = asked(site, key, **{"x-request-id": "by-acme"})
    assert answer.status == 200
    assert site.line("by-acme")["tenant"] == "acme"

    keys(site, "revoke", key_id)
    until(lambda: asked(site, key).status == 401, what="the revoked key is refused")
    assert asked(site).status == 401, "revoking the last key lets nobody in"
    page = (site.folder / "edge-3.log").read_text() + (site.folder / "control-2.log").read_text()
    assert key not in page


def test_streams_that_run_finish_after_a_revocation(site: Rig) -> None:
    key, key_id = created(site, "--tenant", "acme")
    bearer = {"authorization": f"Bearer {key}"}
    with stream(site.url, "seed=3,tokens=200,itl_ms=10", headers=bearer) as running:
        assert running.head().status == 200
        running.until(b'"content"')
        keys(site, "revoke", key_id)
        until(lambda: asked(site, key).status == 401, what="nothing new starts")
        answer = running.rest()
    assert answer.done
    assert answer.errors == []
    assert site.line(answer.headers["x-request-id"])["outcome"] == "finished"


def test_killed_control_keeps_keys_and_secrets(site: Rig) -> None:
    key, key_id = created(site, "--tenant", "acme")
    lost, lost_id = created(site, "--tenant", "acme")
    keys(site, "revoke", lost_id)
    site.kill("control")
    assert asked(site, key).status == 200, "the edge has its snapshot"
    late, _ = keys(site, "create", "--tenant", "other")  # while control is away
    site.start_control()
    until(lambda: asked(site, late).status == 200, what="control is back with all keys")
    assert asked(site, key).status == 200
    assert asked(site, lost).status == 401
    assert asked(site).status == 401
    # An edge that starts after it learns the same.
    site.kill("edge")
    site.start_edge()
    until(lambda: asked(site, key).status == 200, what="a new edge knows the keys")
    assert asked(site).status == 401
    assert key_id in keys(site, "list")[0]


def test_a_damaged_store_leaves_the_keys_in_force_and_stops_the_next_life(site: Rig) -> None:
    key, key_id = created(site, "--tenant", "acme")
    keys(site, "backup", "backup.db")
    for suffix in ("", "-wal", "-shm"):
        Path(f"{store(site)}{suffix}").rename(f"{store(site)}{suffix}.lost")
    store(site).write_bytes(b"this is no database" * 1_000)
    failed = "headrace_control_store_errors_total", frozenset[tuple[str, str]]()
    until(lambda: site.metrics("control").get(failed, 0) > 0, what="control notices")
    assert asked(site, key).status == 200
    assert asked(site).status == 401
    _, said = keys(site, "revoke", key_id, status=2)
    assert "is damaged, or no key store; put a backup in its place" in said
    assert "keys.unreadable" in site.services["control"].output()

    # A control that cannot read its keys would let everybody in, or nobody: it does not start.
    site.services["control"].stop()
    for suffix in ("-wal", "-shm"):
        Path(f"{store(site)}{suffix}").unlink(missing_ok=True)
    site._start("control", "control", "--port", "0", "--ops-port", "0")
    assert site.services["control"].wait() == 2
    assert "is damaged" in site.services["control"].output()

    (site.folder / "backup.db").replace(store(site))
    assert "acme" in keys(site, "list")[0]


def test_a_locked_store_is_told_and_holds_up_nobody(site: Rig) -> None:
    key, key_id = created(site, "--tenant", "acme")
    with sqlite3.connect(store(site), isolation_level=None) as rude:
        rude.execute("BEGIN EXCLUSIVE")
        _, said = keys(site, "revoke", key_id, status=2)
        assert "another process keeps it locked" in said
        assert asked(site, key).status == 200
        rude.execute("ROLLBACK")
    rude.close()
    keys(site, "revoke", key_id)
    until(lambda: asked(site, key).status == 401, what="the revocation arrives")


def test_keys_may_be_demanded_before_there_is_one(tmp_path: Path) -> None:
    with rig(tmp_path, {"alpha": {}}, control={"require_keys": True}, without=("edge",)) as site:
        site.start_edge()
        until(lambda: asked(site).status == 401)
        key, _ = created(site, "--tenant", "acme")
        assert asked(site, key).status == 200
        assert site.services["control"].stop() == 0
        assert not Path(f"{store(site)}-wal").exists(), "a clean end merges the journal"
        site.services["edge"].send(signal.SIGTERM)
