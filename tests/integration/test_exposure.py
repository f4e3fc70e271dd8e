"""A service that others can reach starts with keys or not at all.

`127.1` is the loopback address in a spelling that nobody should trust to be it, so the tests listen nowhere else.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from control.store import Store
from streamkit.ops.exposure import is_loopback, secret_from
from streamkit.ops.settings import SettingsError
from tests.support.exchange import ask, chat
from tests.support.processes import until
from tests.support.rig import Rig, rig

ELSEWHERE = "127.1"
SECRET = "HEADRACE_TEST_EDGE_SECRET"


def asked(site: Rig, key: str = "") -> int:
    return site.post(chat(), {"x-sim": "tokens=2", **({"authorization": f"Bearer {key}"} if key else {})}).status


def store(site: Rig) -> Path:
    return site.folder / ".headrace" / "7400" / "control.db"


def start(site: Rig, name: str, *arguments: str) -> None:
    site._start(name, name, "--port", "0", "--ops-port", "0", *arguments)


def refused(site: Rig, name: str) -> str:
    """Return the one line of a service that did not start."""
    assert site.services[name].wait() == 2
    lines = [line for line in site.services[name].output().splitlines() if not line.startswith("{")]
    assert len(lines) == 1, lines
    return lines[0]


def test_an_edge_without_keys_refuses_and_says_what_to_do(tmp_path: Path) -> None:
    with rig(tmp_path, {"alpha": {}}, edge={"host": ELSEWHERE}, without=("edge",)) as site:
        to_control = ("--control-url", site.url_of("control"))
        for workers in ("1", "2"):
            start(site, "edge", *to_control, "--workers", workers)
            line = refused(site, "edge")
            assert f"host: {ELSEWHERE} is reached from beyond this machine" in line
            assert "headrace keys create --tenant NAME" in line
        assert b'"live_edges":0' in ask(site.url_of("control"), "/v1/backends").body, "it never counted as one"

        with Store(store(site)) as opened:
            key = opened.create_key("acme").key
        until(lambda: b'"required":true' in sync(site), what="control has seen the key")
        site.start_edge()
        until(lambda: asked(site, key) == 200)
        assert asked(site) == 401


@pytest.mark.slow
def test_an_edge_that_cannot_ask_lets_nobody_in(tmp_path: Path) -> None:
    with rig(tmp_path, {"alpha": {}}, edge={"host": ELSEWHERE}, without=("edge",)) as site:
        site.kill("control")
        site.start_edge()
        assert asked(site) == 503
        assert "edge.keys_unknown" in site.services["edge"].output()
        site.start_control()
        # Control knows of no keys; that opens nothing that others can reach.
        until(lambda: asked(site) == 401)
        assert asked(site, "hr-" + "0" * 64) == 401
        with Store(store(site)) as opened:
            key = opened.create_key("acme").key
        until(lambda: asked(site, key) == 200)


def test_control_beyond_loopback_demands_a_secret_of_its_edges(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with rig(tmp_path, {"alpha": {}}, control={"host": ELSEWHERE}, without=("control", "edge")) as site:
        start(site, "control")
        assert "name its variable in control.edge_secret_env" in refused(site, "control")

        file = site.folder / "headrace.toml"
        text = file.read_text().replace("[control]", f'[control]\nedge_secret_env = "{SECRET}"')
        file.write_text(text)
        start(site, "control")
        assert f"control.edge_secret_env: the environment has no {SECRET}" in refused(site, "control")

        monkeypatch.setenv(SECRET, "correct-horse")
        start(site, "control")
        url = site.url_of("control")
        for header in ({}, {"authorization": "Bearer wrong"}, {"authorization": "Basic correct-horse"}):
            for path, body in (("/v1/route", {"model": "tiny"}), ("/v1/sync", {"edge": {}}), ("/v1/backends", b"")):
                answer = ask(url, path, body, headers=header)
                assert (answer.status, answer.json["error"]["code"]) == (401, "unauthorized"), (path, header)
        right = {"authorization": "Bearer correct-horse"}
        until(lambda: ask(url, "/v1/route", {"model": "tiny"}, headers=right).json.get("candidates"))

        # An edge without the secret starts on loopback, and serves nothing.
        site.start_edge()
        assert asked(site) == 503
        site.kill("edge")
        file.write_text(text.replace("[edge]", f'[edge]\ncontrol_secret_env = "{SECRET}"'))
        site.start_edge()
        until(lambda: asked(site) == 200)
        monkeypatch.delenv(SECRET)
        start(site, "edge", "--control-url", url)
        assert f"edge.control_secret_env: the environment has no {SECRET}" in refused(site, "edge")
        said = "".join(path.read_text() for path in site.folder.glob("*.log"))
        assert "correct-horse" not in said


def sync(site: Rig) -> bytes:
    header = {"instance": "looker.0.1", "sequence": 0}
    return ask(site.url_of("control"), "/v1/sync", {"edge": {"header": header, "draining": True}}).body


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "localhost", "::ffff:127.0.0.1"])
def test_loopback(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1", "127.1", "example.org", "localhost.example.org", ""])
def test_everywhere_else(host: str) -> None:
    assert not is_loopback(host)


@pytest.mark.parametrize("value", ["", "two words", "line\nbreak", "ümlaut", "tab\t"])
def test_a_secret_that_no_header_can_carry_is_refused(value: str) -> None:
    with pytest.raises(SettingsError, match=r"^edge\.x: "):
        secret_from("NAME", "edge.x", {"NAME": value})
    assert secret_from("", "edge.x", {}) == ""
    assert secret_from("NAME", "edge.x", {"NAME": "fine"}) == "fine"
