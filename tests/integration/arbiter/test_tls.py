"""Mutual TLS from files: who shows no certificate of ours is not let in."""

from __future__ import annotations

from pathlib import Path

import pytest
import trustme

from core_gpu.lease_client import ClientTls, LeaseAsk, LeaseClient, LeaseError
from tests.support.processes import launch


def test_only_clients_of_our_authority_are_let_in(tmp_path: Path):
    authority, stranger = trustme.CA(), trustme.CA()
    server, client, other = (ca.issue_cert("localhost") for ca in (authority, authority, stranger))
    files = {}
    for name, cert in (("server", server), ("client", client), ("other", other)):
        files[name] = (tmp_path / f"{name}.pem", tmp_path / f"{name}.key")
        cert.cert_chain_pems[0].write_to_path(str(files[name][0]))
        cert.private_key_pem.write_to_path(str(files[name][1]))
    ca = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(ca))
    (tmp_path / "arbiter.toml").write_text(
        f'[arbiter]\nhost = "localhost"\ninventory = "static"\nstate_dir = "{tmp_path / "state"}"\n'
        f'tls_cert_file = "{files["server"][0]}"\ntls_key_file = "{files["server"][1]}"\n'
        f'tls_client_ca_file = "{ca}"\n'
    )
    options = ["--config", str(tmp_path / "arbiter.toml"), "--port", "0", "--ops-port", "0"]
    with launch("arbiter", *options, folder=tmp_path) as running:
        url = running.ready()["url"]
        assert url.startswith("grpcs://localhost:")
        address = url.removeprefix("grpcs://")
        ask = LeaseAsk("c", 100)
        with LeaseClient(address, tls=ClientTls(ca, *files["client"])) as ours, ours.acquire(ask) as lease:
            assert lease.held
        for tls in (None, ClientTls(ca, *files["other"])):
            with LeaseClient(address, tls=tls) as theirs, pytest.raises(LeaseError):
                theirs.acquire(ask)
    assert (tmp_path / "state").stat().st_mode & 0o077 == 0, "the ledger is its owner's"
