"""Children of load tests: found by their ready-files, and told by their last words where they fail."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest

from loadtest import launched
from loadtest.launched import Launched, SiteError, running, services

CPUS = {0}


def script(text: str) -> list[str]:
    return [sys.executable, "-c", text]


def test_a_server_runs_for_the_length_of_the_block(tmp_path: Path):
    ready = tmp_path / "one.json"
    ready.write_text("of an earlier life")
    text = f'import pathlib, time; pathlib.Path({str(ready)!r}).write_text(\'{{"url": "u"}}\'); time.sleep(60)'
    with running("one", script(text), ready, CPUS) as found:
        assert found == {"url": "u"}


def test_one_that_ends_says_how(tmp_path: Path):
    with (
        pytest.raises(SiteError, match="one ended: no, not today"),
        running("one", script("print('no, not today')"), tmp_path / "one.json", CPUS),
    ):
        pytest.fail("it never served")


def test_one_that_takes_too_long_is_told_with_the_time_it_had(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(launched, "_START_S", 0.1)
    with (
        pytest.raises(SiteError, match=r"one does not serve within 0\.1 s"),
        running("one", script("import time; time.sleep(60)"), tmp_path / "one.json", CPUS),
    ):
        pytest.fail("it never served")


def test_a_site_does_not_wait_for_one_that_has_ended(tmp_path: Path):
    async def wait() -> None:
        site = Launched(tmp_path)
        child = site.start("odd", "chekc")
        try:
            await site.until(lambda: False, child)
        finally:
            await site.stop_all()

    with pytest.raises(SiteError, match='odd ended: headrace: no command "chekc"'):
        asyncio.run(wait())


def test_a_ready_file_that_is_not_there_names_nobody_and_another_one_is_an_error(tmp_path: Path):
    ready = tmp_path / "ready.json"
    assert services(ready) == {}
    ready.write_text('{"services": [{"name": "edge", "url": "http://edge", "more": 1}]}')
    assert services(ready)["edge"].url == "http://edge"
    ready.write_text('{"services": 7}')
    with pytest.raises(SiteError, match=r"ready\.json is not as agreed"):
        services(ready)
