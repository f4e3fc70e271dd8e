"""What `headrace check` and `headrace doctor` say of media that viewers would not get."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge.settings import EdgeSettings
from launch.cli import main
from launch.config import section
from launch.doctor.media import media as findings
from launch.doctor.roles import Roles
from launch.media import contained, doubts

AVATARS = '[edge]\nhost = "0.0.0.0"\n[edge.avatars]\ncompositor_url = "grpc://127.0.0.1:50053"\nmax_viewers = 20\n'
PORTS = "port_min = 50000\nport_max = 50199\n"


@pytest.fixture
def edge(tmp_path: Path):
    def made(text: str, base: str = AVATARS) -> EdgeSettings:
        path = tmp_path / "edge.toml"
        path.write_text(f"{base}[edge.webrtc]\n{text}")
        return section(path, "edge")

    return made


def told(edge: EdgeSettings, *, inside: bool) -> list[str]:
    return [doubt.about for doubt in doubts(edge, inside=inside)]


def test_media_that_stays_on_loopback_is_told_where_others_are_let_in(edge):
    (doubt,) = doubts(edge(""), inside=False)
    assert "127.0.0.1 alone" in doubt.seen
    assert "edge.webrtc.addresses" in doubt.do
    assert told(edge("", AVATARS.replace("0.0.0.0", "127.0.0.1")), inside=True) == [], "nobody comes from elsewhere"
    assert told(edge("enabled = false"), inside=True) == []
    assert told(edge("", '[edge]\nhost = "0.0.0.0"\n'), inside=True) == [], "there are no avatars"
    assert told(edge('relay = true\nice_servers = ["turn:203.0.113.10:3478"]'), inside=True) == []


def test_a_containers_own_address_and_ports_are_told(edge):
    own = 'addresses = ["172.18.0.5"]\n'
    assert told(edge(own), inside=True) == ["addresses", "ports"]
    assert told(edge(own + PORTS), inside=True) == ["addresses"]
    assert told(edge(own + PORTS + 'public_addresses = ["203.0.113.9"]'), inside=True) == []
    assert told(edge(own), inside=False) == [], "on a machine it may be the one that viewers reach"


def test_too_few_ports_are_told(edge):
    few = 'addresses = ["192.0.2.7"]\nport_min = 50000\nport_max = 50009\n'
    (doubt,) = doubts(edge(few), inside=False)
    assert "10 ports for up to 20 viewers" in doubt.seen
    assert told(edge(few.replace("50009", "50019")), inside=False) == []
    assert told(
        edge(few.replace("50009", "50019"), AVATARS.replace("[edge]\n", "[edge]\nworkers = 2\n")), inside=False
    )


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ('addresses = ["0.0.0.0"]', "edge.webrtc.addresses: 0.0.0.0 is told to viewers"),
        ('public_addresses = ["::"]', "edge.webrtc.public_addresses: :: is told to viewers"),
        ('addresses = ["edge.example"]', "edge.webrtc.addresses: expected IP addresses"),
        ("relay = true", "edge.webrtc.relay: needs a TURN server"),
    ],
)
def test_check_refuses_what_no_viewer_can_use(capsys, edge, tmp_path, text, line):
    edge(text)
    assert main(["check", str(tmp_path / "edge.toml"), "--service", "edge"]) == 2
    assert line in capsys.readouterr().err


def test_check_notes_what_it_can_see(capsys, edge, tmp_path, monkeypatch):
    edge('addresses = ["172.18.0.5"]')
    monkeypatch.setattr("launch.check.contained", lambda: True)
    assert main(["check", str(tmp_path / "edge.toml"), "--service", "edge"]) == 0
    out = capsys.readouterr().out
    assert "note  edge.webrtc: in a container: viewers are told 172.18.0.5" in out


def test_doctor_knows_whether_the_addresses_are_this_machines(edge):
    def judged(text: str, *, inside: bool = False) -> list[tuple[str, str]]:
        return [(found.check, found.verdict) for found in findings(Roles({"edge": edge(text)}, ()), inside=inside)]

    assert judged('addresses = ["192.0.2.1"]') == [("media.addresses", "fail")]
    assert judged('addresses = ["127.0.0.1"]') == [("media.addresses", "warn")]
    assert judged('addresses = ["127.0.0.1"]\npublic_addresses = ["203.0.113.9"]\n' + PORTS, inside=True) == [
        ("media.addresses", "ok")
    ]
    assert judged("enabled = false") == []


def test_a_container_is_known_by_its_marks(tmp_path: Path):
    assert not contained({}, tmp_path)
    assert contained({"KUBERNETES_SERVICE_HOST": "10.0.0.1"}, tmp_path)
    (tmp_path / ".dockerenv").touch()
    assert contained({}, tmp_path)
