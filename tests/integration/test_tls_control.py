"""TLS between an edge and control, and `headrace up` under an authority of one's own."""

from __future__ import annotations

import json
import ssl
import urllib.request
from pathlib import Path

import pytest
import trustme

from tests.support.exchange import ask, chat
from tests.support.gateway import FAST, start_gateway
from tests.support.processes import until
from tests.support.rig import Rig, rig


class Authority:
    """An authority, its file, and a certificate of its own for this machine."""

    def __init__(self, folder: Path, *names: str) -> None:
        made = trustme.CA()
        self.ca = str(folder / "ca.pem")
        self.cert, self.key = str(folder / "cert.pem"), str(folder / "key.pem")
        made.cert_pem.write_to_path(self.ca)
        issued = made.issue_cert(*(names or ("127.0.0.1",)))
        issued.private_key_pem.write_to_path(self.key)
        issued.cert_chain_pems[0].write_to_path(self.cert)

    @property
    def files(self) -> dict[str, str]:
        return {"tls_cert": self.cert, "tls_key": self.key}


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


def made(folder: Path) -> Path:
    folder.mkdir()
    return folder


def served(site: Rig) -> int:
    return site.post(chat(), {"x-sim": "tokens=2"}).status


def test_an_edge_asks_control_over_tls_and_trusts_its_authority_or_the_certificate_itself(
    authority: Authority, tmp_path: Path
) -> None:
    with rig(made(tmp_path / "rig"), {"alpha": {}}, control=authority.files, without=("edge",)) as site:
        url = site.url_of("control")
        assert url.startswith("https://")
        for trusted in (authority.ca, authority.cert):
            site.start_edge(settings={"control_ca": trusted})
            until(lambda: served(site) == 200)
            site.kill("edge")


def test_an_edge_that_does_not_trust_control_serves_nothing_and_says_why(
    authority: Authority, tmp_path: Path
) -> None:
    (tmp_path / "other").mkdir()
    other = Authority(tmp_path / "other")
    elsewhere = Authority(tmp_path / "other", "control.example")
    for shown, trusted, words in (
        (authority, other.ca, "its certificate is not trusted"),
        (elsewhere, elsewhere.ca, "IP address mismatch"),
    ):
        folder = tmp_path / words.split()[0]
        with rig(made(folder), {}, control=shown.files, without=("edge",)) as site:
            site.start_edge(settings={"control_ca": trusted})
            until(lambda site=site, words=words: words in site.services["edge"].output())
            assert served(site) == 503


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"control_ca": "none.pem", "control_url": "https://127.0.0.1:9"}, "control_ca: none.pem: cannot be read"),
        ({"control_ca": "key.pem", "control_url": "https://127.0.0.1:9"}, "control_ca: key.pem: no PEM certificates"),
        ({"control_ca": "ca.pem"}, "control_ca: is for an https:// control_url, got http://127.0.0.1:7401"),
    ],
)
def test_files_that_cannot_be_used_are_one_line(settings, words, authority, tmp_path, monkeypatch) -> None:
    from edge.exposure import control_trust
    from edge.settings import EdgeSettings
    from streamkit.ops.settings import SettingsError

    assert authority.ca
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SettingsError) as caught:
        control_trust(EdgeSettings(**settings))
    assert str(caught.value).startswith(words)


def test_up_finds_its_own_edge_and_control_under_a_private_authority(authority: Authority) -> None:
    tls = "\n".join(f"{name} = {json.dumps(path)}" for name, path in authority.files.items())
    text = FAST.replace("[edge]", f"[edge]\n{tls}").replace("[control]", f"[control]\n{tls}")
    gateway = start_gateway(text)
    try:
        assert gateway.edge_url.startswith("https://")
        assert gateway.control_url.startswith("https://")
        said = gateway.up.output()
        assert "Headrace is up" in said
        assert "no model answers yet" not in said
        assert "not ready yet" not in said
        trust = ssl.create_default_context(cafile=authority.ca)
        with urllib.request.urlopen(f"{gateway.edge_url}/v1/models", timeout=10, context=trust) as page:
            assert json.load(page)["data"]
        assert ask(gateway.edge_ops_url, "/readyz").status == 200
    finally:
        gateway.stop()
