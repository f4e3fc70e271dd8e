"""Every image's service, started with the packages of its own lock and no others (test_image_steps installs them)."""

from __future__ import annotations

import os
import sys
import urllib.request
from pathlib import Path

import pytest

from tests.support.images import LOCKS, STARTS, view
from tests.support.processes import running, until

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]


def test_every_lock_is_started():
    assert {path.stem for path in LOCKS.glob("*.lock")} == set(STARTS)


@pytest.mark.parametrize("name", STARTS)
def test_a_service_needs_nothing_that_its_lock_has_not(name: str, tmp_path: Path):
    start = STARTS[name]
    packages = view(LOCKS / f"{name}.lock", tmp_path / "packages")
    (tmp_path / "headrace.toml").write_text(start.text)
    ready = tmp_path / "ready.json"
    # Without `site` there is nothing on the path but the standard library, the packages and the code.
    line = [sys.executable, "-S", "-m", "launch", start.command]
    line += ["--config", "headrace.toml", "--ready-file", str(ready)]
    # And reference models are made anew: that needs a package too.
    environment = {"PYTHONPATH": os.pathsep.join((str(packages), str(ROOT))), "XDG_CACHE_HOME": str(tmp_path)}
    with running(line, tmp_path, environment=environment, ready_file=ready) as ours:
        url = ours.ready(ms=60_000)["ops_url"]
        with urllib.request.urlopen(f"{url}{start.page}", timeout=10) as answer:
            assert answer.status == 200
        until(lambda: start.says in ours.output(), what=f"{start.says}: {ours.output()}")
        assert "no_webrtc" not in ours.output(), "the edge's image has WebRTC"
        assert ours.stop(ms=20_000) == 0, ours.output()
