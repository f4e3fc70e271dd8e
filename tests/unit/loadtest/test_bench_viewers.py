"""`headrace bench viewers`: what it refuses, and how its figures are put together."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from loadtest import launched
from loadtest.launched import SiteError
from loadtest.reported import Place
from loadtest.viewers import audience, cli
from loadtest.viewers.audience import Server, percent


def test_wrong_cores_are_an_error(capsys: pytest.CaptureFixture[str]):
    assert cli.main(["--cpus", "0,4095"]) == 2
    assert "headrace bench viewers: " in capsys.readouterr().err


@pytest.mark.parametrize("wrong", [("--rounds", "0"), ("--seconds", "0"), ("--viewers", "0")])
def test_what_would_divide_by_nothing_is_refused(wrong: tuple[str, str], tmp_path: Path):
    with pytest.raises(cli.UnfitError, match=f"{wrong[0]} "):
        cli._measure(cli._parser().parse_args(wrong), Place(tmp_path, 0, 1))


class Child:
    """Says at once, as its ready-file, what a server would."""

    READY = {  # noqa: RUF012
        "up": '{"services": [{"name": "edge", "url": "http://edge", "pid": 1}, {"name": "control", "url": "http://c"}]}',
        "second": '{"url": "http://second", "pid": 3}',
        "faces": '{"url": "http://faces"}',
        "peer": '{"url": "http://peer/offer", "pid": 2}',
    }
    commands: dict[str, list[str]] = {}  # noqa: RUF012

    def __init__(self, name: str, command: list[str], *, log: Path, **_: object) -> None:
        self.commands[name] = command
        (log.parent / f"{name}.json").write_text(self.READY[name])

    def stop(self) -> None:
        return


def test_a_further_viewer_is_compared_within_its_round(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    asked: list[tuple[list[int], int]] = []
    costs = {(1, 1): 3.0, (1, 11): 8.0, (13, 2): 6.0, (13, 12): 12.25, (2, 1): 8.0, (2, 3): 24.0}

    def percent(servers: list[Server], viewers: int, *_: object) -> float:
        asked.append(([server.pid for server in servers], viewers))
        return costs[int("".join(str(server.pid) for server in servers)), viewers]

    monkeypatch.setattr(launched, "Child", Child)
    monkeypatch.setattr(cli, "percent", percent)
    options = argparse.Namespace(rounds=2, seconds=1.0, viewers=10)
    report = cli._measure(options, Place(tmp_path, 0, 1))
    edge, two, peer = report.figures
    assert (edge.server, edge.few_percent.median, edge.each_percent.median) == ("edge", 3.0, 0.5)
    assert (two.processes, two.few, two.few_percent.median, two.each_percent.median) == (2, 2, 6.0, 0.625)
    assert (peer.few_percent.median, peer.each_percent.median) == (8.0, 8.0)
    assert [figure.viewers_per_core_extrapolated.median for figure in report.figures] == [200.0, 160.0, 12.5]
    assert (report.ratio.median, report.ratio.runs) == (16.0, 2)
    assert (report.second_process.median, report.two_cores_extrapolated.median) == (1.25, 1.6)
    assert asked[:4] == [([1], 1), ([1], 11), ([1, 3], 2), ([1, 3], 12)]
    assert 'compositor_url = "http://faces"' in (tmp_path / "site.toml").read_text()
    # Else it would know other keys, and its viewers another session than they were given.
    assert "http://c" in Child.commands["second"]


def test_a_round_whose_cost_noise_has_hidden_leaves_the_ratio_open():
    even, odd = [(3.0, 0.5), (3.0, 0.5)], [(3.0, 0.5), (3.0, -0.1)]
    peer = [(8.0, 8.0), (8.0, 8.0)]
    assert cli._ratios({"edge": even, "encodes for each": peer}, "encodes for each") == [16.0, 16.0]
    assert cli._ratios({"edge": odd, "encodes for each": peer}, "encodes for each") == []
    assert cli._inverse(100.0, [0.5, -0.1]) is None


def test_viewers_are_split_among_servers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    counts: list[tuple[str, str]] = []

    def viewers(name: str, command: list[str], **keywords: object) -> launched.Child:
        counts.append((command[-2], command[-1]))
        return launched.Child(name, [cli.sys.executable, "-c", "print('ready', flush=True); input()"], **keywords)

    monkeypatch.setattr(audience, "Child", viewers)
    monkeypatch.setattr(audience, "_SETTLE_S", 0.0)
    readings = iter([{7: 0, 8: 0}, {7: 40_000_000, 8: 10_000_000}])
    monkeypatch.setattr(audience.proc, "cpu_ns", lambda _pids: next(readings))
    both = [Server("http://one", 7), Server("http://two", 8)]
    # 40 and 10 ms of CPU in a tenth of a second and what waking up takes.
    assert 0 < percent(both, 5, 0.1, tmp_path, 0) <= 50.0
    assert counts == [("http://one", "3"), ("http://two", "2")]


def test_a_server_that_has_ended_is_no_cheap_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    ready = [cli.sys.executable, "-c", "print('ready', flush=True); input()"]

    def viewers(name: str, _command: object, **keywords: object) -> launched.Child:
        return launched.Child(name, ready, **keywords)

    monkeypatch.setattr(audience, "Child", viewers)
    monkeypatch.setattr(audience, "_SETTLE_S", 0.0)
    readings = iter([{7: 1_000}, {}])
    monkeypatch.setattr(audience.proc, "cpu_ns", lambda _pids: next(readings))
    with pytest.raises(SiteError, match="ended while it was measured"):
        percent([Server("http://edge", 7)], 1, 0.01, tmp_path, 0)
