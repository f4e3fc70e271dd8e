"""The configuration of a broker: refused where it would be open, and printed as the settings say."""

from __future__ import annotations

import pytest

from launch.cli import main
from observe.conf import BrokerPlan, written


def plan(**given) -> BrokerPlan:
    return BrokerPlan(**{"site": "berlin", "host": "127.0.0.1", "port": 7440, "store_dir": "/x", **given})


BASE = {"stream_bytes": 1 << 20}


def test_a_site_by_itself_has_a_domain_and_no_leaf():
    text = written(plan(**BASE))
    assert 'domain: "berlin"' in text
    assert 'store_dir: "/x"' in text
    assert "leafnodes" not in text


def test_the_hub_has_room_for_both_streams():
    room = 64 * 1024 * 1024
    assert f"max_file_store: {(1 << 20) + room}" in written(plan(**BASE))
    assert f"max_file_store: {(2 << 20) + room}" in written(plan(**BASE, central=True, leaf_host="127.0.0.1"))


def test_a_free_port_is_the_server_s_own_word_for_it():
    assert "port: -1" in written(plan(**BASE, port=0))


def test_sites_are_taken_in_from_elsewhere_with_certificates_only():
    with pytest.raises(ValueError, match="mutual TLS"):
        plan(**BASE, leaf_host="0.0.0.0")
    text = written(plan(**BASE, leaf_host="0.0.0.0", leaf_tls=("/c", "/k", "/a")))
    assert "verify: true" in text


def test_the_command_prints_it_and_names_what_is_wrong(capsys):
    assert main(["observe", "config", "--site", "berlin", "--hub-url", "nats-leaf://10.0.0.5:7422"]) == 0
    out = capsys.readouterr().out
    assert 'url: "nats-leaf://10.0.0.5:7422"' in out
    for options, what in (
        (["--site", "Berlin!"], "observe.site"),
        (["--role", "centre"], "observe.role: expected one of"),
        (["--role", "central", "--leaf-host", "0.0.0.0"], "leaf_host"),
        (["--leaf-cert-file", "c.pem"], "all three, or none"),
    ):
        assert main(["observe", "config", *options]) == 2
        err = capsys.readouterr().err
        assert what in err
        assert err.count("\n") == 1
