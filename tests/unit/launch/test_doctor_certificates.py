"""The PEM files that services are given, made by a real authority; dates, mix-ups and what is not there."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import trustme

from launch.doctor.certificates import certificates, pairs
from launch.doctor.roles import named

NOW = datetime.now(UTC)


@pytest.fixture
def authority(tmp_path: Path) -> trustme.CA:
    ours = trustme.CA()
    ours.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    return ours


def issue(authority: trustme.CA, folder: Path, name: str, days: float = 365) -> None:
    cert = authority.issue_cert(
        "edge.example", not_before=NOW - timedelta(days=400), not_after=NOW + timedelta(days=days)
    )
    cert.cert_chain_pems[0].write_to_path(str(folder / f"{name}.pem"))
    cert.private_key_pem.write_to_path(str(folder / f"{name}.key"))


def judged(folder: Path, service: str = "edge", **files: str) -> dict[str, tuple[str, str]]:
    lines = [f'{key} = "{folder / name}"\n' for key, name in files.items()]
    (folder / "given.toml").write_text(f"[{service}]\n{''.join(lines)}")
    found = certificates(pairs(named(str(folder / "given.toml"), [service])))
    return {finding.check: (finding.verdict, finding.seen) for finding in found if finding.check.startswith("tls.")}


@pytest.mark.parametrize(("days", "verdict"), [(365, "ok"), (7, "warn"), (-1, "fail")])
def test_a_certificate_that_ends_soon_is_told(authority, tmp_path, days, verdict):
    issue(authority, tmp_path, "edge", days)
    found = judged(tmp_path, tls_cert="edge.pem", tls_key="edge.key")["tls.edge.tls_cert"]
    assert found[0] == verdict
    if verdict != "fail":
        assert f"{NOW + timedelta(days=days):%Y-%m-%d}" in found[1]
    else:
        assert "expired" in found[1]


def test_files_that_do_not_belong_together_are_told(authority, tmp_path):
    issue(authority, tmp_path, "edge")
    issue(authority, tmp_path, "other")
    assert (
        "another certificate's" in judged(tmp_path, tls_cert="edge.pem", tls_key="other.key")["tls.edge.tls_cert"][1]
    )
    assert "no such file" in judged(tmp_path, tls_cert="edge.pem", tls_key="none.key")["tls.edge.tls_cert"][1]
    assert "stands alone" in judged(tmp_path, tls_cert="edge.pem")["tls.edge.tls_cert"][1]
    (tmp_path / "junk.pem").write_text("no certificate")
    assert judged(tmp_path, tls_cert="junk.pem", tls_key="edge.key")["tls.edge.tls_cert"][0] == "fail"


def test_authorities_are_read_and_files_of_other_services_and_of_tables_inside_are_found(authority, tmp_path):
    issue(authority, tmp_path, "node")
    three = {"tls_cert_file": "node.pem", "tls_key_file": "node.key", "tls_client_ca_file": "ca.pem"}
    found = judged(tmp_path, "arbiter", **three)
    assert {name: verdict for name, (verdict, _) in found.items()} == {
        "tls.arbiter.tls_cert_file": "ok", "tls.arbiter.tls_client_ca_file": "ok",
    }  # fmt: skip
    inside = {
        f"avatars.compositor_{key}": name
        for key, name in (("cert", "node.pem"), ("key", "node.key"), ("ca", "none.pem"))
    }
    found = judged(tmp_path, "edge", **inside)
    assert found["tls.edge.avatars.compositor_cert"][0] == "ok"
    assert found["tls.edge.avatars.compositor_ca"][0] == "fail"


def test_nothing_is_said_where_nothing_is_named(tmp_path):
    assert judged(tmp_path) == {}
