from __future__ import annotations

import json
from pathlib import Path

import pytest

from control.store import Store
from launch.cli import main
from streamkit.wire.keys import Tenant, digest


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    return tmp_path


@pytest.fixture
def store(here: Path) -> str:
    path = here / ".headrace" / "7400" / "control.db"
    Store(path, create=True).close()
    return str(path)


def told(capsys: pytest.CaptureFixture[str], *argv: str) -> tuple[int, str, str]:
    status = main(["keys", *argv])
    out, err = capsys.readouterr()
    return status, out, err


def test_a_key_is_the_only_thing_on_standard_output(capsys, store):
    status, out, err = told(capsys, "create", "--tenant", "acme", "--max-streams", "3")
    assert status == 0
    key = out.rstrip("\n")
    assert len(key) == 3 + 64
    assert key not in err
    with Store(store) as opened:
        assert [record.sha256 for record in opened.snapshot().keys] == [digest(key)]
        assert opened.tenant("acme") == Tenant(name="acme", max_streams=3)


def test_list_shows_all_but_the_secret(capsys, store):
    _, key, _ = told(capsys, "create", "--tenant", "acme", "--note", "phone", "--requests-per-minute", "60")
    _, other, _ = told(capsys, "create", "--tenant", "other", "--max-priority", "4")
    status, out, _ = told(capsys, "list")
    assert status == 0
    assert key.strip() not in out
    assert "acme" in out
    assert "60 requests/min" in out
    assert "priority 4 at best" in out
    found = json.loads(told(capsys, "list", "--json")[1])
    assert [line["tenant"] for line in found["keys"]] == ["acme", "other"]
    assert digest(other.strip()) not in json.dumps(found)


def test_revoke_by_the_id_that_list_shows(capsys, store):
    told(capsys, "create", "--tenant", "acme")
    (line,) = json.loads(told(capsys, "list", "--json")[1])["keys"]
    assert told(capsys, "revoke", line["id"])[0] == 0
    assert "revoked" in told(capsys, "list")[1]
    assert told(capsys, "revoke", line["id"]) == (0, "", f"headrace keys: {line['id']} was revoked before\n")
    status, _, err = told(capsys, "revoke", "k-nonesuch")
    assert (status, "is no key here" in err) == (2, True)


def test_a_tenant_s_limits_change_one_by_one(capsys, store):
    told(capsys, "create", "--tenant", "acme", "--max-streams", "3")
    assert told(capsys, "tenant", "acme", "--tokens-per-minute", "500")[1] == "acme: 500 tokens/min, 3 streams\n"
    assert told(capsys, "tenant", "acme", "--max-streams", "0")[1] == "acme: 500 tokens/min\n"
    assert told(capsys, "tenant", "acme")[1] == "acme: 500 tokens/min\n"
    assert told(capsys, "tenant", "nobody")[0] == 2
    # Another key of the tenant leaves them as they are.
    told(capsys, "create", "--tenant", "acme")
    assert told(capsys, "tenant", "acme")[1] == "acme: 500 tokens/min\n"


def test_no_store_is_made_by_mistake(capsys, here):
    status, out, err = told(capsys, "create", "--tenant", "acme")
    assert (status, out) == (2, "")
    assert "no key store at .headrace/7400/control.db" in err
    assert err.count("\n") == 1
    assert not (here / ".headrace").exists()
    assert told(capsys, "create", "--tenant", "acme", "--new")[0] == 0
    assert (here / ".headrace" / "7400" / "control.db").exists()


def test_the_configuration_names_the_store(capsys, here):
    (here / "my.toml").write_text('[control]\nstore_path = "elsewhere.db"\n')
    assert told(capsys, "create", "--config", "my.toml", "--tenant", "acme", "--new")[0] == 0
    assert (here / "elsewhere.db").exists()
    assert "acme" in told(capsys, "list", "--store", "elsewhere.db")[1]


def test_a_backup_opens(capsys, store):
    told(capsys, "create", "--tenant", "acme")
    assert told(capsys, "backup", "copy.db")[0] == 0
    assert "acme" in told(capsys, "list", "--store", "copy.db")[1]
    assert told(capsys, "backup", "copy.db")[0] == 2


def test_rotating_voids_tokens_and_no_key(capsys, store):
    told(capsys, "create", "--tenant", "acme")
    with Store(store) as opened:
        before = opened.snapshot()
    assert told(capsys, "rotate-tokens")[0] == 0
    with Store(store) as opened:
        after = opened.snapshot()
    assert after.keys == before.keys
    assert after.secrets["client-tokens"] != before.secrets["client-tokens"]
    assert after.secrets["stream-ids"] == before.secrets["stream-ids"]


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["create"], "missing: --tenant"),
        (["create", "--tenant", "a b"], "argument --tenant"),
        (["create", "--tenant", "x" * 65], "argument --tenant"),
        (["create", "--tenant", "a", "--max-streams", "-1"], "argument --max-streams"),
        (["create", "--tenant", "a", "--max-priority", "0"], "--max-priority"),
        (["make"], 'no command "make"'),
        (["list", "--config", "none.toml"], "none.toml: no such file"),
    ],
)
def test_a_mistake_is_one_line_and_two(capsys, store, argv, words):
    status, out, err = told(capsys, *argv)
    assert (status, out) == (2, "")
    assert words in err
    assert err.count("\n") == 1


def test_a_damaged_store_is_one_line_and_two(capsys, store):
    Path(store).write_bytes(b"damaged" * 1_000)
    for suffix in ("-wal", "-shm"):
        Path(store + suffix).unlink(missing_ok=True)
    status, _, err = told(capsys, "list")
    assert status == 2
    assert "is damaged" in err
    assert err.count("\n") == 1
